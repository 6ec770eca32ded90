//! `memora check`: every invariant of a fabric, live or dead.

use serde_json::json;

use super::open::Place;
use crate::output::{Answer, Outcome, Output};

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
