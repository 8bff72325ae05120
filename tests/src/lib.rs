//! What the end-to-end tests share: programs, servers, workloads and the oracle.
