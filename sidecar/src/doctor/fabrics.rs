//! Fabrics of the home that cannot be opened, or that nobody is attached to.

use std::path::Path;

use memora::{Fabric, FabricInfo};

use super::{Finding, Level};
use crate::output::bytes;

pub fn examine(home: &Path, findings: &mut Vec<Finding>) {
    match Fabric::list(Some(home)) {
        Ok(fabrics) => findings.push(summary(&fabrics)),
        Err(error) => findings.push(Finding::new("fabrics", Level::Problem, error.detail(), error.remedy())),
    }
}

fn summary(fabrics: &[FabricInfo]) -> Finding {
    const TOPIC: &str = "fabrics";
    if let Some((info, problem)) = fabrics.iter().find_map(|info| Some((info, info.problem.as_ref()?))) {
        let what = format!("`{}` cannot be opened: {}", info.name, problem.detail());
        return Finding::new(TOPIC, Level::Warning, what, problem.remedy());
    }
    let idle: Vec<&FabricInfo> = fabrics.iter().filter(|info| info.processes == 0).collect();
    if idle.is_empty() {
        return Finding::good(TOPIC, format!("{} in the home, all in use", fabrics.len()));
    }
    let names: Vec<&str> = idle.iter().map(|info| info.name.as_str()).collect();
    let limit = bytes(idle.iter().map(|info| info.limit).sum());
    Finding::new(
        TOPIC,
        Level::Note,
        format!("Nobody is attached to {} (up to {limit}): their data stays.", names.join(", ")),
        format!("What is not needed: memora rm {}", names[0]),
    )
}
