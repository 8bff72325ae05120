//! The `holdfast` binary; also answers to the name `litestream`. Nothing but the way into `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::heap::share();
    ExitCode::from(holdfast::cli::main(std::env::args_os()))
}
