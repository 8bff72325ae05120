//! `replicate -dry-run`: what each replica holds and how replicating to it would begin. Changes nothing.

use holdfast_config::Config;
use holdfast_config::exit::Exit;
use serde_json::{Value, json};

use super::{block_on, print, print_json, table};
use crate::error::{Error, Kind};
use crate::run::directories;
use crate::run::replicate::check;
use crate::run::survey::{Survey, asked};
use crate::store::{OpenOptions, Store};

/// One replica of one database.
struct Preview {
    db: String,
    replica: String,
    /// Its newest LTX transaction.
    txid: Option<String>,
    generations: usize,
    layout: String,
    opening: String,
}

/// Prints a row for each replica; the first that cannot be listed ends it.
pub(super) fn preview(config: &Config, json: bool) -> Result<Exit, Error> {
    check(config).map_err(|(_, cause)| Error::new(Kind::Config, "replicate", cause))?;
    let rows = block_on(previews(config))?;
    if json {
        print_json(&rows.iter().map(value).collect());
    } else {
        let rows: Vec<_> = rows.into_iter().map(row).collect();
        print(&table::table(["database", "replica", "holds", "layout", "would"], &rows));
    }
    Ok(Exit::Ok)
}

async fn previews(config: &Config) -> Result<Vec<Preview>, Error> {
    let mut rows = Vec::new();
    for database in directories::databases(config) {
        let options = OpenOptions::for_database(&database.path);
        for replica in &database.replicas {
            let survey = Survey::of(&Store::open(&replica.destination, &options.of(replica))?).await?;
            let opening = survey.opening(asked(replica.layout));
            rows.push(Preview {
                db: database.path.display().to_string(),
                replica: replica.name.clone(),
                txid: survey.files.highest().map(|txid| txid.to_string()),
                generations: survey.generations(),
                layout: opening.format().to_string(),
                opening: opening.to_string(),
            });
        }
    }
    Ok(rows)
}

/// `/data/app.db  s3  2 generations, LTX to 000000000000002a  ltx  go on after …`
fn row(p: Preview) -> [String; 5] {
    let s = if p.generations == 1 { "" } else { "s" };
    let generations = (p.generations > 0).then(|| format!("{} generation{s}", p.generations));
    let files = p.txid.map(|txid| format!("LTX to {txid}"));
    let holds: Vec<_> = generations.into_iter().chain(files).collect();
    let holds = if holds.is_empty() { "nothing".to_owned() } else { holds.join(", ") };
    [p.db, p.replica, holds, p.layout, p.opening]
}

fn value(p: &Preview) -> Value {
    json!({
        "database": p.db,
        "replica": p.replica,
        "generations": p.generations,
        "txid": p.txid,
        "layout": p.layout,
        "would": p.opening,
    })
}
