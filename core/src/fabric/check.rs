//! Every invariant of every layer.

use std::fmt;
use std::sync::Arc;

use super::Fabric;
use super::directory::ObjectKind;
use crate::error::Result;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The layer that it belongs to.
    pub layer: &'static str,
    /// Where it is.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.layer, self.place, self.what)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Every broken invariant; empty for a sound fabric.
    pub problems: Vec<Problem>,
    /// Objects looked at.
    pub objects: u32,
    /// Whether other processes or threads were attached: then only what holds at any instant was verified.
    pub live: bool,
}

impl Fabric {
    /// Verifies every invariant of the fabric, live or dead. Finding problems is not an error of the call.
    pub fn check(&self) -> Result<CheckReport> {
        let inner = &self.inner;
        inner.registry.enter()?;
        let writable = inner.segment.shm().writable();
        let attached = inner.registry.processes()?.iter().map(|process| process.threads).sum::<u32>();
        // Alone: our own thread is the only one, or nobody is attached at all.
        let live = !writable || attached > u32::from(inner.registry.has_attached());
        let mut report = CheckReport { live, ..CheckReport::default() };
        let problems = &mut report.problems;
        let mut add = |layer: &'static str, result: Result<()>, found: Vec<(String, String)>| {
            problems.extend(found.into_iter().map(|(place, what)| Problem { layer, place, what }));
            if let Err(error) = result {
                problems.push(Problem { layer, place: "the check".to_owned(), what: error.to_string() });
            }
        };
        let mut found = Vec::new();
        let result = crate::registry::check(&inner.registry, &mut |place, what| found.push((place, what)));
        add("registry", result, found);
        let mut found = Vec::new();
        let objects = inner.directory.objects(&inner.pool);
        let extended = |number| {
            let objects = objects.as_deref().unwrap_or_default();
            objects.iter().any(|object| object.id == number && super::objects::has_transactions(object))
        };
        let mut note = |place, what| found.push((place, what));
        let result = crate::chunk::check(&inner.pool, live, &extended, &mut note);
        add("chunk", result, found);
        let objects = match objects {
            Ok(objects) => objects,
            Err(error) => {
                add("directory", Err(error), Vec::new());
                Vec::new()
            }
        };
        report.objects = objects.len() as u32;
        for object in &objects {
            let mut found = Vec::new();
            let (layer, result) = match object.kind {
                ObjectKind::Channel => (
                    "channel",
                    inner.area(object, Arc::clone(&inner.undertaker)).and_then(|area| {
                        let mut add = |what, place| found.push((place, what));
                        crate::channel::check(&area, &mut add)?;
                        if live { Ok(()) } else { crate::channel::check_taken_over(&area, &mut add) }
                    }),
                ),
                ObjectKind::Signal => (
                    "signal",
                    inner.bare_signal(object).and_then(|area| {
                        let mut add = |what, place| found.push((place, what));
                        crate::signal::check(&area, &mut add)?;
                        if live { Ok(()) } else { crate::signal::check_taken_over(&area, &mut add) }
                    }),
                ),
                ObjectKind::Service => (
                    "service",
                    inner.service_area(object, Arc::clone(&inner.undertaker)).and_then(|area| {
                        let mut add = |what, place| found.push((place, what));
                        crate::service::check(&area, &mut add)?;
                        if live { Ok(()) } else { crate::service::check_taken_over(&area, &mut add) }
                    }),
                ),
                ObjectKind::Cache | ObjectKind::Store | ObjectKind::Topic => (
                    "table",
                    inner.table(object).and_then(|table| {
                        crate::table::check(&table, live, &mut |place, what| found.push((place, what)))
                    }),
                ),
            };
            add(layer, result, found);
            if object.kind == ObjectKind::Store {
                let mut found = Vec::new();
                let result =
                    crate::store::check::check(&inner.pool, object.id, object.offset, &mut |place, what| {
                        found.push((place, what))
                    });
                add("store", result, found);
            }
        }
        Ok(report)
    }
}
