//! What is on the chain and in the mempool, fast: an index with the HTTP API of Esplora and an explorer page.
