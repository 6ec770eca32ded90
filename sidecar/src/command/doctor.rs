//! `memora doctor`: what on this host will hurt.

use std::path::Path;

use serde_json::json;

use crate::doctor::{Finding, Level, examine};
use crate::output::{Answer, Outcome, Output};

pub fn run(home: &Path, strict: bool, output: &mut Output) -> Outcome {
    let findings = examine(home);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    output.answer(|| to_json(home, &findings), || to_text(&findings))?;
    let threshold = if strict { Level::Warning } else { Level::Problem };
    Ok(if worst >= threshold { Answer::No } else { Answer::Yes })
}

fn to_json(home: &Path, findings: &[Finding]) -> serde_json::Value {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "topic": finding.topic,
                "level": finding.level.word(),
                "what": finding.what,
                "remedy": finding.remedy,
            })
        })
        .collect();
    json!({ "home": home.display().to_string(), "findings": list })
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{:<8} {:<27} {}\n", finding.level.word(), finding.topic, finding.what));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:36} -> {remedy}\n", ""));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text.push_str(&format!(
        "\nproblems: {}, warnings: {}, notes: {}, ok: {}\n",
        count(Level::Problem),
        count(Level::Warning),
        count(Level::Note),
        count(Level::Good)
    ));
    text
}
