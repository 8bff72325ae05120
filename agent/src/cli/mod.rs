//! One file per command. Arguments in, exit code out; the work is done in run.
