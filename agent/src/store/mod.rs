//! What the replica holds. The only room that touches destinations and credentials. No database, no clock.
