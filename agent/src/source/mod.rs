//! What SQLite did. The only room that touches the live database and its WAL. No network.
