//! What to do next. Values in, values out; time and chance are arguments. No I/O, no clock, no async, no logging.
