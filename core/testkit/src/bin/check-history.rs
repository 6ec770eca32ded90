//! `check-history kv|evict|queue|work FILE...`: judges the histories of stress workers, see docs/stress.md.
//!
//! Exit code: 0 = in order, 1 = a rule is broken (or undecided within the budget), 2 = wrong arguments or unreadable files.

use std::path::PathBuf;
use std::process::ExitCode;

use memora_testkit::history::{operations, read};
use memora_testkit::{linearizability, queue_history, work_history};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let kind = arguments.next().and_then(|kind| kind.into_string().ok()).unwrap_or_default();
    let files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if !matches!(kind.as_str(), "kv" | "evict" | "queue" | "work") || files.is_empty() {
        eprintln!("usage: check-history kv|evict|queue|work FILE...");
        return ExitCode::from(2);
    }
    let operations =
        match read(&files).map_err(|error| error.to_string()).and_then(|lines| operations(&lines)) {
            Ok(operations) => operations,
            Err(error) => {
                eprintln!("check-history: {error}");
                return ExitCode::from(2);
            }
        };
    let count = operations.len();
    let verdict = if kind == "work" {
        let queue =
            work_history::Queue { name: memora_stress::work::QUEUE, acknowledged: true, letters: None };
        work_history::check(&operations, &queue).map(|summary| {
            format!(
                "{count} operations are in order: {} sent, {} taken, {} redelivered, {} acknowledged",
                summary.sent, summary.taken, summary.redelivered, summary.acknowledged
            )
        })
    } else if kind != "queue" {
        let check = if kind == "kv" { linearizability::check } else { linearizability::check_evicting };
        match check(&operations, linearizability::Budget::default()) {
            Ok(linearizability::Verdict::Linearizable) => Ok(format!("{count} operations are linearizable")),
            Ok(linearizability::Verdict::Violation { key, story }) => {
                Err(format!("key {key} is not linearizable: {story}"))
            }
            Ok(linearizability::Verdict::Undecided { key }) => {
                Err(format!("undecided within the budget at key {key}"))
            }
            Err(error) => Err(error),
        }
    } else {
        queue_history::check(&operations).map(|summary| {
            format!(
                "{count} operations are in order: {} sent, {} received, {} redelivered, {} reported lost",
                summary.sent, summary.received, summary.redelivered, summary.lost
            )
        })
    };
    match verdict {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("check-history: {text}");
            ExitCode::FAILURE
        }
    }
}
