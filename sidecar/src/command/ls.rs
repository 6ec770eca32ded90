//! `memora ls`: the fabrics of the home.

use memora::{Fabric, FabricInfo};
use serde_json::{Value, json};

use super::open::Place;
use crate::output::{Answer, Outcome, Output, bytes, table};

pub fn run(place: &Place, output: &mut Output) -> Outcome {
    let fabrics = Fabric::list(place.home.as_deref())?;
    output.answer(
        || json!({ "fabrics": fabrics.iter().map(to_json).collect::<Vec<_>>() }),
        || match fabrics.is_empty() {
            true => "no fabrics; `memora set KEY VALUE` makes one\n".to_owned(),
            false => to_text(&fabrics),
        },
    )?;
    Ok(Answer::Yes)
}

/// A fabric as JSON.
pub fn to_json(info: &FabricInfo) -> Value {
    json!({
        "name": info.name,
        "path": info.path.as_ref().map(|path| path.display().to_string()),
        "backend": format!("{:?}", info.backend).to_lowercase(),
        "limit": info.limit,
        "uuid": info.uuid,
        "layout_version": info.layout_version,
        "created_ms": info.created_ms,
        "uid": info.uid,
        "mode": format!("{:04o}", info.mode),
        "processes": info.processes,
        "objects": info.objects,
        "problem": info.problem.as_ref().map(|problem| {
            json!({ "name": problem.code().name(), "what": problem.detail(), "remedy": problem.remedy() })
        }),
    })
}

fn to_text(fabrics: &[FabricInfo]) -> String {
    let rows = fabrics.iter().map(|info| match &info.problem {
        Some(problem) => {
            vec![info.name.clone(), problem.code().name().to_owned(), problem.detail().to_owned()]
        }
        None => vec![
            info.name.clone(),
            bytes(info.limit),
            format!("{} processes, {} objects", info.processes, info.objects),
        ],
    });
    table(&["fabric", "limit", "what"], rows)
}
