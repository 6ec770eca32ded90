//! `memora check`: every invariant of a fabric, live or dead.

use std::path::Path;

use serde_json::json;

use super::open::Place;
use super::progress::Bar;
use crate::output::{self, Answer, Outcome, Output};

pub fn run(place: &Place, name: Option<&str>, output: &mut Output) -> Outcome {
    let name = name.unwrap_or(&place.fabric);
    let fabric = place.open_to_look(name)?;
    let report = fabric.check()?;
    let json = || {
        let problems: Vec<_> = report
            .problems
            .iter()
            .map(|problem| json!({ "layer": problem.layer, "place": problem.place, "what": problem.what }))
            .collect();
        json!({ "fabric": name, "objects": report.objects, "live": report.live, "problems": problems })
    };
    let text = || match report.problems.len() {
        0 => format!(
            "{name}: sound, {} objects{}",
            report.objects,
            if report.live { ", others are attached" } else { "" }
        ),
        count => {
            let lines = report
                .problems
                .iter()
                .map(|problem| format!("{name}: {}: {}: {}\n", problem.layer, problem.place, problem.what));
            format!(
                "{}{name}: {count} problems; remove it, stores recover from their files\n",
                lines.collect::<String>()
            )
        }
    };
    output.answer(json, text)?;
    Ok(if report.problems.is_empty() { Answer::Yes } else { Answer::No })
}

/// The files of a store or backup, without any fabric: what is wrong first is the error.
pub fn run_files(dir: &Path, output: &mut Output) -> Outcome {
    let bar = Bar::bytes("reading");
    let report = memora::verify(dir, |done, total| bar.at(done, total))?;
    bar.end();
    let place = dir.display();
    let kind = if report.backup { "backup" } else { "store" };
    let json = || {
        json!({
            "dir": place.to_string(), "kind": kind, "store": report.store, "records": report.records,
            "bytes": report.bytes, "torn": report.torn, "feed_files": report.feed_files, "sound": true,
        })
    };
    let text = || {
        let torn = match report.torn {
            0 => String::new(),
            count => format!(", {count} journal files end in a batch that a crash cut off"),
        };
        let feed = match report.feed_files {
            0 => String::new(),
            count => format!(", {count} journal files are kept for the change feed"),
        };
        let size = output::bytes(report.bytes);
        format!("{place}: sound {kind} `{}`, {} records in {size}{torn}{feed}", report.store, report.records)
    };
    output.answer(json, text)?;
    Ok(Answer::Yes)
}
