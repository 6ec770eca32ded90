//! `memora repair`: says what is lost, and saves the rest when it is told to.

use std::path::Path;

use memora::{Loss, RepairOptions};
use serde_json::json;

use super::progress::Bar;
use crate::output::{Answer, Outcome, Output};

pub fn run(dir: &Path, options: RepairOptions, output: &mut Output) -> Outcome {
    let bar = Bar::bytes("reading");
    let report = memora::repair(dir, &options, |done, total| bar.at(done, total))?;
    bar.end();
    let place = dir.display();
    let json = || {
        let losses: Vec<_> = report
            .losses
            .iter()
            .map(|loss| {
                json!({
                    "file": loss.file, "from": loss.from, "to": loss.to, "records": loss.records,
                    "first_flush": loss.epochs.map(|epochs| epochs.0),
                    "last_flush": loss.epochs.map(|epochs| epochs.1), "what": loss.what,
                })
            })
            .collect();
        json!({
            "dir": place.to_string(),
            "problem": report.problem.as_ref().map(|problem| problem.detail()),
            "losses": losses, "records": report.records, "done": options.apply, "originals": report.originals,
        })
    };
    let text = || {
        let Some(problem) = &report.problem else {
            return format!("{place}: sound, nothing to repair");
        };
        let losses: String = report.losses.iter().map(|loss| format!("  {}\n", told(loss))).collect();
        let losses = match losses.as_str() {
            "" => "  nothing is lost: only what describes the records is damaged\n",
            losses => losses,
        };
        let done = match options.apply {
            true => format!(
                "repaired: {} records kept; the originals are beside, their names end with .damaged",
                report.records
            ),
            false => format!("{} records are kept by `memora repair --yes {place}`", report.records),
        };
        format!(
            "{}\nlost:\n{losses}a key whose newest state is lost has the one before, or none; one that was deleted there may \
             come back\n{done}",
            problem.detail()
        )
    };
    output.answer(json, text)?;
    Ok(if report.problem.is_none() || options.apply { Answer::Yes } else { Answer::No })
}

fn told(loss: &Loss) -> String {
    let records = match loss.records {
        Some(1) => "1 record".to_owned(),
        Some(count) => format!("{count} records"),
        None => "an unknown number of records".to_owned(),
    };
    let flushes = match loss.epochs {
        None => String::new(),
        Some((first, last)) if first == last => format!(" of flush {first}"),
        Some((first, last)) => format!(" of flushes {first} to {last}"),
    };
    format!("{} bytes {} to {}: {records}{flushes}: {}", loss.file, loss.from, loss.to, loss.what)
}
