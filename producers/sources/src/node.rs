//! A node: RPC and REST for the truth, ZMQ as doorbell.
