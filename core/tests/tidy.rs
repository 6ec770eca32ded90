//! Style that a reader relies on, kept by a test: who may use whom, where `unsafe` stands, what the documents list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Layers from the top; each may use only those of later rows, and itself.
const LAYERS: &[&[&str]] = &[
    &["fabric"],
    &["service", "topic"],
    &["store"],
    &["cache", "channel", "signal"],
    &["table", "journal"],
    &["tree"],
    &["chunk"],
    &["registry"],
    &["segment"],
    &["wait"],
    &["shm"],
];
/// May be used by all and use nothing.
const COMMON: &[&str] = &["error", "limits"];
const LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core stands in the workspace").to_path_buf()
}

/// All files below `dir` with one of these extensions, without what is built.
fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The code alone: comments and the contents of strings are blanked, lines stay.
fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..].find(&close).map_or(rest.len(), |at| start + at + close.len())
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            let skipped = if rest.starts_with("'\\") { 3 } else { 2 };
            rest.char_indices().skip(skipped).find(|&(_, c)| c == '\'').map_or(rest.len(), |(at, _)| at + 1)
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..taken].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[taken..];
    }
    out
}

fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|&byte| byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Bytes of the string literal at the start, quotes included.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Without the tests inside a file, which stand at its end and may use what they like.
fn without_tests(source: &str) -> &str {
    let mut from = 0;
    while let Some(at) = source[from..].find("#[cfg(test)]") {
        let after = source[from + at + "#[cfg(test)]".len()..].trim_start();
        if after.starts_with("mod ") && after.lines().next().is_some_and(|line| line.ends_with('{')) {
            return &source[..from + at];
        }
        from += at + 1;
    }
    source
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests" || name == "interleavings" || name.ends_with("_tests")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// The modules of the crate that a source names by `crate::…`, also in `crate::{a::…, b}`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c| is_word(c) || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut fresh = true;
            for (place, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    c if fresh && is_word(c) => {
                        used.extend(words(&group[place..]).next().map(str::to_string));
                        fresh = false;
                    }
                    _ => {}
                }
            }
        } else if rest.starts_with(is_word) {
            used.extend(words(rest).next().map(str::to_string));
        }
    }
    used
}

#[test]
fn each_layer_uses_only_the_layers_below_it() {
    let src = root().join("core/src");
    let level = |name: &str| LAYERS.iter().position(|row| row.contains(&name));
    let mut seen = 0;
    let mut wrong = Vec::new();
    for path in files(&src, &["rs"]) {
        let inside = path.strip_prefix(&src).expect("found there");
        let layer =
            inside.components().next().expect("a file").as_os_str().to_string_lossy().replace(".rs", "");
        if layer == "lib" || is_test_file(&path) {
            continue;
        }
        seen += 1;
        let here = level(&layer);
        assert!(
            here.is_some() || COMMON.contains(&layer.as_str()),
            "{} belongs to no layer: say where it stands in LAYERS",
            shown(&path)
        );
        for used in modules_used(&code(without_tests(&read(&path)))) {
            let allowed = match (here, level(&used)) {
                // Names at the root of the crate are re-exports: only those of `error` stand below all.
                (_, None) => {
                    COMMON.contains(&used.as_str())
                        || ["Error", "ErrorCode", "Result"].contains(&used.as_str())
                }
                (Some(here), Some(there)) => there > here || used == layer,
                (None, Some(_)) => false,
            };
            if !allowed {
                wrong.push(format!("{} ({layer}) uses {used}", shown(&path)));
            }
        }
    }
    assert!(seen > 10, "only {seen} files found");
    assert!(wrong.is_empty(), "against the direction of the layers:\n{}", wrong.join("\n"));
}

#[test]
fn packages_depend_on_the_core_alone() {
    let mut seen = 0;
    for (manifest, allowed) in [
        ("core/Cargo.toml", &[][..]),
        ("core/stress/Cargo.toml", &["memora"]),
        ("ffi/Cargo.toml", &["memora", "memora_core"]),
        ("bindings-java/native/Cargo.toml", &["memora"]),
        ("sidecar/Cargo.toml", &["memora", "memora-stress"]),
    ] {
        let text = read(&root().join(manifest));
        let start = text.find("\n[dependencies]\n").unwrap_or_else(|| panic!("{manifest}: no dependencies"));
        let section = &text[start + 1..];
        let section = &section[..section[1..].find("\n[").map_or(section.len(), |at| at + 1)];
        for line in section.lines().filter(|line| line.starts_with("memora")) {
            let name = line.split(['.', ' ', '=']).next().expect("a name");
            assert!(allowed.contains(&name), "{manifest} may not depend on {name}");
            assert!(!line.contains("kill-points"), "{manifest}: kill points are for tests");
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} dependencies found");
}

#[test]
fn unsafe_stands_only_where_the_border_is() {
    // In the test kit it is `fork`, and words in a file that processes share; some of those that we are compared with ask for it.
    let allowed = [
        "core/src/shm/",
        "core/testkit/src/fork.rs",
        "core/testkit/src/words.rs",
        "ffi/",
        "bindings-java/native/",
        "benches/compare/src/peer.rs",
        "benches/compare/src/server.rs",
        "benches/compare/src/store/engine.rs",
    ];
    let mut users = 0;
    for path in files(&root(), &["rs"]) {
        let name = shown(&path);
        if !words(&code(&read(&path))).any(|word| word == "unsafe") {
            continue;
        }
        users += 1;
        assert!(allowed.iter().any(|place| name.starts_with(place)), "{name} has unsafe code");
    }
    assert!(users > 0, "no unsafe code found at all: this test looks at nothing");
}

#[test]
fn atomics_come_from_shm_so_that_the_model_checker_can_take_their_place() {
    for path in files(&root().join("core/src"), &["rs"]) {
        if shown(&path).starts_with("core/src/shm/") || is_test_file(&path) {
            continue;
        }
        let code = code(without_tests(&read(&path)));
        let packed: String = code.split_whitespace().collect();
        for name in ["std::sync::atomic", "core::sync::atomic", "sync::{atomic", ",atomic::"] {
            assert!(!packed.contains(name), "{} names {name}", shown(&path));
        }
    }
    assert!(read(&root().join("core/src/shm/atomic.rs")).contains("memora_loom"));
}

/// Labels of `ORDER <ordering> [label]` with the files in which they stand, and how often.
fn order_labels() -> BTreeMap<String, Vec<String>> {
    let mut labels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(&root().join("core/src"), &["rs"]) {
        for (number, line) in read(&path).lines().enumerate() {
            let Some((_, order)) = line.split_once("// ORDER ") else { continue };
            let place = format!("{}:{}", shown(&path), number + 1);
            let ordering = words(order).next().unwrap_or_default();
            let known = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
            assert!(known.contains(&ordering), "{place}: `{ordering}` is no ordering");
            match order.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
                Some((names, _)) => {
                    for label in names.split(',') {
                        labels.entry(label.trim().to_string()).or_default().push(place.clone());
                    }
                }
                None => {
                    assert_eq!(ordering, "Relaxed", "{place}: an ordering without the label of its partner")
                }
            }
        }
    }
    labels
}

#[test]
fn every_order_label_stands_at_two_ends_and_in_the_document() {
    let labels = order_labels();
    assert!(!labels.is_empty());
    let document = read(&root().join("docs/memory-ordering.md"));
    let listed: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(label, _)| label)
        .collect();
    let mut wrong = Vec::new();
    for (label, places) in &labels {
        if places.len() < 2 {
            wrong.push(format!("[{label}] stands only at {}", places[0]));
        }
        if !listed.contains(label.as_str()) {
            wrong.push(format!("[{label}] ({}) is not in docs/memory-ordering.md", places[0]));
        }
    }
    for label in listed {
        if !labels.contains_key(label) {
            wrong.push(format!("docs/memory-ordering.md lists [{label}], which no source names"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kill_point_stands_in_the_source_once_or_more_and_names_its_layer() {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    for path in files(&root().join("core/src"), &["rs"]) {
        sources.insert(shown(&path), read(&path));
    }
    let layers: BTreeSet<&str> = LAYERS.iter().flat_map(|row| row.iter().copied()).collect();
    let mut wrong = Vec::new();
    for name in memora::shm::kill_point::NAMES {
        let layer = name.split('.').next().expect("a name");
        if !layers.contains(layer) && !["directory", "test"].contains(&layer) {
            wrong.push(format!("{name} names no layer"));
        }
        let quoted = format!("\"{name}\"");
        let used = sources
            .iter()
            .filter(|(file, _)| !file.ends_with("shm/kill_point.rs") || layer == "test")
            .any(|(_, text)| text.contains("kill_point!") && text.contains(&quoted));
        if !used {
            wrong.push(format!("{name} stands nowhere in the source"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut seen = 0;
    for path in files(&root(), &["rs", "java", "c", "h", "hpp", "sh"]) {
        let lines = read(&path).lines().count();
        seen += 1;
        // The header is generated, one page for one library.
        assert!(lines <= LINES_MAX || path.ends_with("memora.h"), "{} has {lines} lines", shown(&path));
    }
    assert!(seen > 20, "only {seen} files found");
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_to_do() {
    for path in files(&root(), &["rs"]) {
        let code = code(&read(&path));
        for left in ["#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
            assert!(!code.contains(left), "{} contains {left}", shown(&path));
        }
    }
    assert!(code("a // #[ignore\nb \"todo!(\" 'x' '\\'' c").split_whitespace().eq(["a", "b", "c"]));
}

#[test]
fn the_list_of_errors_agrees_with_the_table() {
    let document = read(&root().join("docs/errors.md"));
    for code in memora::ErrorCode::ALL {
        let row = document
            .lines()
            .find(|line| line.starts_with('|') && words(line).any(|word| word == code.name()))
            .unwrap_or_else(|| panic!("docs/errors.md has no row for {}", code.name()));
        let number = code.number().to_string();
        assert!(words(row).any(|word| word == number), "{}: not number {number}: {row}", code.name());
        for text in [code.text(), code.remedy()] {
            assert!(row.contains(text), "{}: the row does not say `{text}`: {row}", code.name());
        }
    }
    let rows = document
        .lines()
        .filter(|line| line.split('|').nth(1).is_some_and(|cell| cell.trim().parse::<u16>().is_ok()));
    assert_eq!(rows.count(), memora::ErrorCode::ALL.len(), "rows of codes that do not exist");
}

#[test]
fn uses_are_found_in_every_form() {
    let source = "use crate::{chunk::{Pool, state}, shm::Span, Error};\nfn f() { crate::table::g(); $crate::store::x; mycrate::cache::y }";
    let found: Vec<String> = modules_used(&code(source)).into_iter().collect();
    assert_eq!(found, ["Error", "chunk", "shm", "table"]);
}
