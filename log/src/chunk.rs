//! Values larger than the log takes, as consecutive records of one partition.
