//! `tests/bench`: one table, ours in both layouts beside Litestream 0.3.13, 0.5.17 and no agent at all; same machine,
//! same run.
//!
//! | module | rows |
//! | --- | --- |
//! | [`latency`] | `latency`, `paced`: from a commit to what restores it |
//! | [`load`] | `busy`, `load`: what the app and the agent pay under load |
//! | [`bulk`] | `snapshot`, `restore`, `objects`: large databases and many objects |
//! | [`idle`] | `idle1`, `idle200`: the price of nothing |
//! | [`table`] | the table, and what each figure of ours may be at most |
//!
//! Every row says in its module how it is measured. Data lies in temporary directories and is gone afterwards.

mod bulk;
mod column;
mod idle;
mod latency;
mod load;
mod table;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use crate::column::Column;
use crate::table::Table;

#[derive(Debug, Parser)]
#[command(about = "Measures ours, Litestream 0.3.13, 0.5.17 and no agent; prints one table")]
struct Args {
    /// The rows to measure; all of them when none is named.
    rows: Vec<Row>,
    /// Measure only this program; may be given more than once.
    #[arg(long)]
    only: Vec<Column>,
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

fn main() -> ExitCode {
    let args = Args::parse();
    let rows = if args.rows.is_empty() { Row::value_variants() } else { &args.rows };
    let columns = if args.only.is_empty() { Column::value_variants() } else { &args.only };
    let started = Instant::now();
    let mut table = Table::default();
    let wants = |row| rows.contains(&row);
    if wants(Row::Latency) {
        latency::after_a_quiet_interval(columns, &mut table);
    }
    if wants(Row::Paced) {
        latency::within_the_interval(columns, &mut table);
    }
    if wants(Row::Busy) {
        load::busy(columns, &mut table);
    }
    if wants(Row::Load) {
        load::forty_thousand_commits(columns, &mut table);
    }
    if wants(Row::Snapshot) || wants(Row::Restore) {
        bulk::large_database(columns, &mut table);
    }
    if wants(Row::Objects) {
        bulk::many_objects(columns, &mut table);
    }
    if wants(Row::Idle1) {
        idle::idle(1, columns, &mut table);
    }
    if wants(Row::Idle200) {
        idle::idle(200, columns, &mut table);
    }
    println!("{table}\n{} rows in {:.0} s", table.len(), started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
