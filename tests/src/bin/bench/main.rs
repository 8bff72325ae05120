//! `tests/bench`: one table, ours beside Litestream 0.3.13, 0.5.17 and no agent at all; same machine, same run.
//!
//! | module | rows |
//! | --- | --- |
//! | [`latency`] | `latency`, `paced`: from a commit to what restores it |
//! | [`load`] | `busy`, `load`: what the app and the agent pay under load |
//! | [`bulk`] | `snapshot`, `restore`, `objects`: large databases and many objects |
//! | [`idle`] | `idle1`, `idle200`: the price of nothing |
//! | [`table`] | the table, and what each figure may be at most |
//!
//! Every row says in its module how it is measured. Data lies in temporary directories and is gone afterwards.

mod bulk;
mod idle;
mod latency;
mod load;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use holdfast_tests::tool::Tool;

use crate::table::Table;

#[derive(Debug, Parser)]
#[command(about = "Measures ours, Litestream 0.3.13, 0.5.17 and no agent; prints one table")]
struct Args {
    /// The rows to measure; all of them when none is named.
    rows: Vec<Row>,
    /// Measure only this program.
    #[arg(long)]
    only: Option<Only>,
}

/// The rows, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    Latency,
    Paced,
    Busy,
    Load,
    Snapshot,
    Restore,
    Objects,
    Idle1,
    Idle200,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Ours,
    #[value(name = "0.3.13")]
    V03,
    #[value(name = "0.5.17")]
    V05,
    Bare,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let rows = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let tools: Vec<Tool> = match args.only {
        None => vec![Tool::V03, Tool::V05, Tool::Holdfast],
        Some(Only::Ours) => vec![Tool::Holdfast],
        Some(Only::V03) => vec![Tool::V03],
        Some(Only::V05) => vec![Tool::V05],
        Some(Only::Bare) => vec![],
    };
    let bare = matches!(args.only, None | Some(Only::Bare));
    let started = Instant::now();
    let mut table = Table::default();
    let wants = |row| rows.contains(&row);
    if wants(Row::Latency) {
        latency::after_a_quiet_interval(&tools, &mut table);
    }
    if wants(Row::Paced) {
        latency::within_the_interval(&tools, &mut table);
    }
    if wants(Row::Busy) {
        load::busy(&tools, bare, &mut table);
    }
    if wants(Row::Load) {
        load::forty_thousand_commits(&tools, bare, &mut table);
    }
    if wants(Row::Snapshot) || wants(Row::Restore) {
        bulk::large_database(&tools, &mut table);
    }
    if wants(Row::Objects) {
        bulk::many_objects(&tools, &mut table);
    }
    if wants(Row::Idle1) {
        idle::idle(1, &tools, &mut table);
    }
    if wants(Row::Idle200) {
        idle::idle(200, &tools, &mut table);
    }
    println!("{table}\n{} rows in {:.0} s", table.len(), started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
