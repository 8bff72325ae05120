//! The price of nothing: databases that are open and quiet, default configuration.
//!
//! The app's connections are held by this process. All programs run at the same time, each on its own databases;
//! counters are taken 10 s after the start and again 20 s later. A wake-up is any time a thread of the agent was put
//! on a CPU: voluntary and involuntary context switches of all of its threads. Memory is the resident size at the end.

use std::path::Path;
use std::time::Duration;

use holdfast_tests::procfs::Cost;
use holdfast_tests::replica::Replica;
use rusqlite::Connection;

use crate::column::Column;
use crate::table::{Must, Table};

pub(crate) fn idle(databases: usize, columns: &[Column], table: &mut Table) {
    println!("idle: {databases} databases, 10 s to settle, 20 s to count");
    let running: Vec<_> = columns
        .iter()
        .filter_map(|column| Some((*column, column.tool()?)))
        .map(|(column, tool)| {
            let dir =
                tempfile::Builder::new().prefix("holdfast-idle-").tempdir().expect("a temporary directory");
            let app: Vec<_> =
                (0..databases).map(|number| open(&dir.path().join(format!("{number}.db")))).collect();
            std::fs::write(dir.path().join("litestream.yml"), config(dir.path(), databases, column))
                .expect("the configuration");
            let agent = tool.replicate(&dir.path().join("litestream.yml"), &dir.path().join("agent.log"));
            (column, agent, app, dir)
        })
        .collect();
    std::thread::sleep(Duration::from_secs(10));
    let costs = || {
        running
            .iter()
            .map(|(_, agent, ..)| Cost::of(agent.pid()).expect("the agent runs"))
            .collect::<Vec<_>>()
    };
    let before = costs();
    std::thread::sleep(WINDOW);
    for ((column, ..), (before, after)) in running.iter().zip(before.into_iter().zip(costs())) {
        let (cpu, wakes, memory) = bounds(databases);
        let (column, seconds) = (*column, WINDOW.as_secs_f64());
        let name =
            |figure| format!("idle {figure}, {databases} database{}", if databases == 1 { "" } else { "s" });
        table.set(&name("CPU"), " %", cpu, column, (after.ran - before.ran) / seconds * 100.0);
        table.set(
            &name("wake-ups per second"),
            "",
            wakes,
            column,
            (after.switches - before.switches) as f64 / seconds,
        );
        table.set(&name("memory"), " MB", memory, column, after.resident as f64 / 1e6);
    }
}

const WINDOW: Duration = Duration::from_secs(20);

fn bounds(databases: usize) -> (Must, Must, Must) {
    if databases == 1 {
        (Must::at_most(0.01), Must::at_most(1.0), Must::at_most(12.0))
    } else {
        (Must::at_most(0.2), Must::at_most(5.0), Must::at_most(32.0))
    }
}

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("open a database");
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).expect("WAL mode");
    db.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").expect("a first commit");
    db
}

fn config(dir: &Path, databases: usize, column: Column) -> String {
    let one = |number| {
        let replica = Replica::File(dir.join(format!("replica/{number}")));
        format!("  - path: {}/{number}.db\n    replicas:\n{}", dir.display(), replica.yaml(column.keys()))
    };
    format!("dbs:\n{}", (0..databases).map(one).collect::<String>())
}
