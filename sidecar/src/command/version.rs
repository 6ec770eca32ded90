//! `memora version`.

use serde_json::json;

use crate::output::{Answer, Outcome, Output};

pub fn run(output: &mut Output) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    output.answer(|| json!({ "version": version }), || format!("memora {version}"))?;
    Ok(Answer::Yes)
}
