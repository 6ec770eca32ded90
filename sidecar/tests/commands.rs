//! The commands as a user types them: output, exit codes, both formats.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A home of its own for each test; gone with it.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::Builder::new().prefix("memora-cli-").tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memora"));
        command.env("MEMORA_HOME", self.path().join("home")).env_remove("MEMORA_KILL_POINT").args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs with this on standard input.
    fn feed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that has given up reads no further.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// What a successful command printed.
    fn stdout(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert_code(&output, 0, arguments);
        output.stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(arguments);
        let output = self.run(&all);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stdout))
        })
    }
}

fn assert_code(output: &Output, code: i32, arguments: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
}

#[test]
fn a_key_is_set_read_counted_and_deleted() {
    let home = Home::new();
    home.stdout(&["set", "a", "one"]);
    assert_eq!(home.stdout(&["get", "a"]), b"one");
    let entry = home.json(&["get", "a"]);
    assert_eq!((&entry["found"], &entry["value"], &entry["flags"]), (&true.into(), &"one".into(), &0.into()));
    assert_eq!(entry["ttl_ms"], Value::Null);
    assert_eq!(home.stdout(&["incr", "n", "5", "--initial", "10"]), b"10\n");
    assert_eq!(home.stdout(&["incr", "n", "5"]), b"15\n");
    assert_eq!(home.stdout(&["incr", "n"]), b"16\n");
    assert_eq!(home.stdout(&["incr", "n", "100", "--down"]), b"0\n");
    assert_eq!(home.json(&["del", "a"])["deleted"], true);
    assert_code(&home.run(&["del", "a"]), 1, &["del", "a"]);
}

#[test]
fn a_missing_key_is_a_no_and_not_an_error() {
    let home = Home::new();
    home.stdout(&["set", "a", "1"]);
    let output = home.run(&["get", "absent"]);
    assert_code(&output, 1, &["get"]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(home.json(&["get", "absent"])["found"], false);
    assert_code(&home.run(&["incr", "absent"]), 1, &["incr"]);
}

#[test]
fn flags_and_a_time_to_live_are_kept_with_the_value() {
    let home = Home::new();
    home.stdout(&["set", "a", "1", "--flags", "7", "--ttl", "1h"]);
    let entry = home.json(&["get", "a"]);
    assert_eq!(entry["flags"], 7);
    let ttl_ms = entry["ttl_ms"].as_u64().unwrap();
    assert!(ttl_ms > 0 && ttl_ms <= 3_600_000, "{ttl_ms}");
}

#[test]
fn values_and_keys_of_any_bytes_come_back_as_they_were() {
    let home = Home::new();
    let value: Vec<u8> = (0..=255).cycle().take(3000).collect();
    assert_code(&home.feed(&["set", "binary", "-"], &value), 0, &["set"]);
    assert_eq!(home.stdout(&["get", "binary"]), value);
    assert!(home.json(&["get", "binary"])["value_base64"].is_string());
    let key = OsStr::from_bytes(b"\xff\xfe key");
    assert!(home.command(&["set"]).arg(key).arg("raw").status().unwrap().success());
    assert_eq!(home.command(&["get"]).arg(key).output().unwrap().stdout, b"raw");
}

#[test]
fn messages_wait_for_a_named_subscription_and_are_seen_once() {
    let home = Home::new();
    home.stdout(&["send", "news", "before anybody listens"]);
    assert_eq!(home.stdout(&["tail", "news", "--name", "reader", "--wait", "10ms"]), b"");
    assert_code(&home.feed(&["send", "news", "-", "--lines"], b"one\ntwo\nthree\n"), 0, &["send"]);
    assert_eq!(home.stdout(&["tail", "news", "--name", "reader", "-n", "2"]), b"one\ntwo\n");
    let rest = home.json(&["tail", "news", "--name", "reader", "--wait", "10ms"]);
    assert_eq!(rest["value"], "three");
    assert!(rest["position"].is_u64() && rest["lane"].is_u64());
    assert_eq!(home.stdout(&["tail", "news", "--name", "reader", "--wait", "10ms"]), b"");
}

#[test]
fn a_follower_prints_what_comes_and_ends_when_its_reader_goes() {
    let home = Home::new();
    home.stdout(&["send", "news", "first"]);
    home.stdout(&["tail", "news", "--name", "follower", "--wait", "1ms"]);
    let mut follower = home
        .command(&["tail", "news", "--name", "follower", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    home.stdout(&["send", "news", "second"]);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "second\n");
    drop(lines);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn messages_of_a_queue_are_printed_only_by_who_takes_them() {
    let home = Home::new();
    home.stdout(&["send", "jobs", "first", "--kind", "queue", "--acknowledge", "--visibility", "1h"]);
    let refused = home.command(&["tail", "jobs", "--wait", "1ms"]).output().unwrap();
    assert_code(&refused, 3, &["tail"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("WRONG_KIND") && text.contains("--take"), "{text}");
    assert_eq!(home.stdout(&["tail", "jobs", "--take", "--wait", "10ms"]), b"first\n");
    assert_eq!(home.stdout(&["tail", "jobs", "--take", "--wait", "10ms"]), b"", "it was acknowledged");
    home.stdout(&["send", "jobs", "second"]);
    let second = home.json(&["tail", "jobs", "--take", "-n", "1"]);
    assert_eq!((&second["value"], &second["deliveries"]), (&"second".into(), &1.into()));
    assert_eq!(second["redelivered"], false);
    home.stdout(&["send", "once", "third", "--kind", "queue"]);
    assert_eq!(home.stdout(&["tail", "once", "--take", "--wait", "10ms"]), b"third\n");
    home.stdout(&["send", "news", "x"]);
    let refused = home.command(&["tail", "news", "--take"]).output().unwrap();
    assert_code(&refused, 3, &["tail"]);
    for wrong in [
        &["send", "no", "x", "--visibility", "1s"][..],
        &["send", "no", "x", "--acknowledge", "--deliveries", "3"],
        &["tail", "jobs", "--take", "--name", "reader"],
    ] {
        assert_code(&home.command(wrong).output().unwrap(), 2, wrong);
    }
    let wrong = ["send", "no", "x", "--kind", "stream", "--acknowledge"];
    assert_code(&home.command(&wrong).output().unwrap(), 3, &wrong);
}

#[test]
fn a_log_is_read_again_from_any_position() {
    let home = Home::new();
    let making = ["--kind", "log", "--log-bytes", "256KiB", "--log-age", "1h"];
    home.stdout(&[&["send", "orders", "zero"], &making[..]].concat());
    assert_code(&home.feed(&["send", "orders", "-", "--lines"], b"one\ntwo\nthree\n"), 0, &["send"]);
    let tail = |more: &[&str]| home.stdout(&[&["tail", "orders", "--wait", "10ms"], more].concat());
    assert_eq!(tail(&[]), b"", "from now on");
    assert_eq!(tail(&["--from", "oldest"]), b"zero\none\ntwo\nthree\n");
    assert_eq!(tail(&["--from", "2"]), b"two\nthree\n");
    assert_eq!(tail(&["--from", "newest"]), b"");
    assert_eq!(tail(&["--name", "audit", "--from", "oldest", "-n", "3"]), b"zero\none\ntwo\n");
    let rest = home.json(&["tail", "orders", "--wait", "10ms", "--name", "audit"]);
    assert_eq!((&rest["value"], &rest["position"]), (&"three".into(), &3.into()));
    let stat = home.json(&["stat", "default", "orders"]);
    assert_eq!(
        (&stat["oldest"], &stat["end"], &stat["readers"][0]["lag"]),
        (&0.into(), &4.into(), &0.into())
    );
    assert_eq!(stat["readers"][0]["name"], "audit");
    let ahead = home.command(&["tail", "orders", "--from", "5"]).output().unwrap();
    assert_code(&ahead, 3, &["tail"]);
    assert!(String::from_utf8_lossy(&ahead.stderr).contains("POSITION_AHEAD"));
    home.stdout(&["send", "news", "x"]);
    assert_code(&home.command(&["tail", "news", "--from", "oldest"]).output().unwrap(), 3, &["tail"]);
    assert_code(&home.command(&["check"]).output().unwrap(), 0, &["check"]);
}

#[test]
fn a_log_with_files_is_there_again_after_its_fabric_was_removed() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log").display().to_string();
    let making =
        ["--log-bytes", "256KiB", "--log-dir", &dir, "--log-dir-bytes", "1MiB", "--log-file-bytes", "64KiB"];
    home.stdout(
        &[&["send", "orders", "zero", "--kind", "log", "--when-full", "overrun"], &making[..]].concat(),
    );
    home.stdout(&["send", "orders", "one"]);
    assert_eq!(home.stdout(&["tail", "orders", "--name", "audit", "--from", "oldest", "-n", "1"]), b"zero\n");
    home.stdout(&["log", "flush", "orders"]);
    let stat = home.json(&["stat", "default", "orders"]);
    assert_eq!(
        (&stat["durable"], &stat["files"], &stat["dir"]),
        (&2.into(), &1.into(), &dir.as_str().into())
    );
    home.stdout(&["rm", "default"]);
    let opened = home.json(&[&["log", "open", "orders"], &making[..]].concat());
    assert_eq!((&opened["oldest"], &opened["end"]), (&0.into(), &2.into()));
    assert_eq!(home.stdout(&["tail", "orders", "--wait", "10ms", "--name", "audit"]), b"one\n");
    assert_code(&home.command(&["check"]).output().unwrap(), 0, &["check"]);
    let wrong = ["log", "open", "other", "--log-dir", &dir];
    let refused = home.command(&wrong).output().unwrap();
    assert_code(&refused, 3, &wrong);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("NOT_A_STORE"));
}

#[test]
fn a_send_that_finds_no_room_gives_up_with_the_remedy() {
    let home = Home::new();
    let making = ["--lane-bytes", "64KiB", "--timeout", "50ms"];
    home.stdout(&[&["send", "narrow", "x"], &making[..]].concat());
    home.stdout(&["tail", "narrow", "--name", "absent", "--wait", "1ms"]);
    let line = format!("{}\n", "y".repeat(1000));
    let arguments = [&["send", "narrow", "-", "--lines"], &making[..]].concat();
    let output = home.feed(&arguments, line.repeat(200).as_bytes());
    assert_code(&output, 3, &["send"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("TIMED_OUT") || text.contains("BACK_PRESSURE"), "{text}");
    assert!(text.contains("try:"), "{text}");
}

#[test]
fn signals_are_notified_counted_and_shown() {
    let home = Home::new();
    assert_eq!(home.stdout(&["counter", "c"]), b"0\n");
    assert_eq!(home.stdout(&["counter", "c", "--add", "-5"]), b"-5\n");
    assert_eq!(home.stdout(&["counter", "c", "--set", "7"]), b"7\n");
    assert_eq!(home.stdout(&["counter", "c", "--wait-at-least", "7", "--timeout", "9s"]), b"7\n");
    let late = ["counter", "c", "--wait-at-least", "8", "--timeout", "10ms"];
    assert_code(&home.run(&late), 1, &late);
    assert_eq!(home.stdout(&["event", "notify", "e"]), b"1\n");
    assert_eq!(home.stdout(&["event", "wait", "e", "--seen", "0"]), b"1\n");
    home.stdout(&["event", "notify", "e", "--one"]);
    assert_eq!(home.json(&["event", "wait", "e"])["one"], true);
    let late = ["event", "wait", "e", "--timeout", "10ms"];
    assert_code(&home.run(&late), 1, &late);
    let mut waiter =
        home.command(&["event", "wait", "e", "--seen", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    home.stdout(&["event", "notify", "e"]);
    assert!(waiter.wait().unwrap().success());
    assert_eq!(home.json(&["stat", "default", "e"])["sequence"], 2);
    assert_eq!(home.json(&["stat", "default", "c"])["value"], 7);
    let kinds = home.json(&["stat"])["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].clone())
        .collect::<Vec<_>>();
    assert!(kinds.contains(&"event".into()) && kinds.contains(&"counter".into()), "{kinds:?}");
    let wrong = ["lock", "c", "--", "true"];
    assert_code(&home.run(&wrong), 3, &wrong);
    home.stdout(&["check"]);
}

#[test]
fn a_program_runs_under_a_lock_that_passes_on_when_its_owner_is_killed() {
    let home = Home::new();
    let owner_died = |home: &Home| home.stdout(&["lock", "l", "--", "sh", "-c", "printf $MEMORA_OWNER_DIED"]);
    assert_eq!(owner_died(&home), b"0");
    let failing = ["lock", "l", "--", "sh", "-c", "exit 7"];
    assert_code(&home.run(&failing), 7, &failing);
    let mut owner = home.command(&["lock", "l", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    while home.json(&["stat", "default", "l"])["owner"]["pid"] != owner.id() {
        assert!(owner.try_wait().unwrap().is_none());
    }
    let busy = ["lock", "l", "--timeout", "10ms", "--", "true"];
    let refused = home.run(&busy);
    assert_code(&refused, 3, &busy);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("TIMED_OUT"));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let failing = ["lock", "l", "--", "sh", "-c", "exit $MEMORA_OWNER_DIED"];
    assert_code(&home.run(&failing), 1, &failing);
    assert_eq!(owner_died(&home), b"1", "nobody has mended it");
    assert_eq!(owner_died(&home), b"0", "a program that ended well has");
    let missing = ["semaphore", "s", "--", "true"];
    assert_code(&home.run(&missing), 3, &missing);
    let busy = ["semaphore", "s", "--permits", "2", "--count", "2", "--", "sh", "-c", "exit 5"];
    assert_code(&home.run(&busy), 5, &busy);
    assert_eq!(home.json(&["stat", "default", "s"])["free"], 2);
    let absent = ["lock", "l", "--", "/nonexistent"];
    assert_code(&home.run(&absent), 3, &absent);
    home.stdout(&["check"]);
}

#[test]
fn a_store_keeps_its_entries_when_the_fabric_is_gone() {
    let home = Home::new();
    let dir = home.path().join("files");
    let dir = dir.to_str().unwrap();
    let with_dir = |arguments: &[&'static str]| {
        let mut all: Vec<String> = vec!["store".to_owned(), "--dir".to_owned(), dir.to_owned()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        all
    };
    let run = |arguments: &[&'static str]| {
        let all = with_dir(arguments);
        home.run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_code(&run(&["--durability", "sync", "set", "a", "kept"]), 0, &["store", "set"]);
    assert_code(&run(&["set", "b", "deleted"]), 0, &["store", "set"]);
    assert_code(&run(&["del", "b"]), 0, &["store", "del"]);
    assert_code(&run(&["flush"]), 0, &["store", "flush"]);
    assert_code(&run(&["checkpoint"]), 0, &["store", "checkpoint"]);
    let shards = |number: &[&'static str], code, printed: &str| {
        let output = run(&[&["shards"], number].concat());
        assert_code(&output, code, &["store", "shards"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), printed);
    };
    shards(&[], 0, "4");
    shards(&["7"], 0, "7");
    shards(&["65"], 2, "");
    shards(&[], 0, "7");
    home.stdout(&["rm", "default"]);
    let kept = run(&["get", "a"]);
    assert_code(&kept, 0, &["store", "get"]);
    assert_eq!(kept.stdout, b"kept");
    assert_code(&run(&["get", "b"]), 1, &["store", "get"]);
}

#[test]
fn ls_and_stat_show_what_is_there() {
    let home = Home::new();
    assert_eq!(home.json(&["ls"])["fabrics"], Value::Array(vec![]));
    home.stdout(&["--fabric", "orders", "--limit", "8MiB", "set", "a", "1"]);
    home.stdout(&["--fabric", "orders", "send", "news", "hello"]);
    let listed = home.json(&["ls"]);
    assert_eq!(listed["fabrics"][0]["name"], "orders");
    assert_eq!(listed["fabrics"][0]["limit"], 8 << 20);
    let stat = home.json(&["stat", "orders"]);
    let names: Vec<_> =
        stat["objects"].as_array().unwrap().iter().map(|object| object["name"].clone()).collect();
    assert!(names.contains(&"cache".into()) && names.contains(&"news".into()), "{names:?}");
    let cache = home.json(&["stat", "orders", "cache"]);
    assert_eq!(
        (&cache["entries"], &cache["sets"], &cache["sealed_chunks"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(cache["hit_ratio"].is_null() && cache["advice"].is_null(), "{cache}");
    for arguments in
        [&["ls"][..], &["stat", "orders"], &["stat", "orders", "cache"], &["stat", "orders", "news"]]
    {
        let text = String::from_utf8(home.stdout(arguments)).unwrap();
        assert!(text.lines().count() >= 2, "{arguments:?}: {text}");
    }
    assert_code(&home.run(&["stat", "orders", "absent"]), 3, &["stat"]);
}

#[test]
fn a_call_prints_the_reply_and_its_end_where_there_is_none() {
    let home = Home::new();
    let fabric = memora::FabricOptions::new().home(home.path().join("home")).open("default").unwrap();
    let service = fabric.service("echo", &memora::ServiceOptions::default()).unwrap();
    let server = std::thread::spawn(move || {
        let mut server = service.server().unwrap();
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let patience = Some(std::time::Duration::from_secs(60));
            let request = server.take(&mut bytes, patience).unwrap().expect("a request");
            bytes.extend_from_slice(b" back");
            assert!(request.reply(&bytes).unwrap());
        }
    });
    assert_eq!(home.stdout(&["call", "echo", "hello", "--timeout", "60s"]), b"hello back");
    assert_eq!(home.json(&["call", "echo", "json", "--timeout", "60s"])["value"], "json back");
    server.join().unwrap();
    let refused = home.run(&["call", "echo", "nobody", "--timeout", "30ms"]);
    assert_code(&refused, 3, &["call"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("TIMED_OUT"));
    let stat = home.json(&["stat", "default", "echo"]);
    assert_eq!((&stat["kind"], &stat["calls"]), (&"service".into(), &3.into()), "{stat}");
    assert_eq!((&stat["timed_out"], &stat["asked"]), (&1.into(), &0.into()), "{stat}");
    assert_code(&home.run(&["call", "absent", "x"]), 3, &["call"]);
}

#[test]
fn a_tail_of_a_topic_prints_the_newest_value_of_each_key() {
    let home = Home::new();
    let fabric = memora::FabricOptions::new().home(home.path().join("home")).open("default").unwrap();
    let topic = fabric.topic("prices", &memora::TopicOptions::default()).unwrap();
    for (key, value) in [("apples", "1"), ("pears", "7"), ("apples", "2")] {
        topic.publish(key.as_bytes(), value.as_bytes()).unwrap();
    }
    let text = String::from_utf8(home.stdout(&["tail", "prices", "-n", "2"])).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["apples\t2", "pears\t7"]);
    topic.retract(b"pears").unwrap();
    topic.retract(b"apples").unwrap();
    let told = home.json(&["tail", "prices", "-n", "1"]);
    assert!(told["value"].is_null() && told["conflated"] == 0 && told["number"].as_u64() > Some(1), "{told}");
    assert_code(&home.run(&["tail", "prices", "--name", "n"]), 3, &["tail"]);
    let stat = home.json(&["stat", "default", "prices"]);
    assert_eq!((&stat["kind"], &stat["keys"], &stat["updates"]), (&"topic".into(), &2.into(), &5.into()));
}

#[test]
fn a_sound_fabric_passes_the_check_and_a_damaged_one_does_not() {
    let home = Home::new();
    for key in 0..20 {
        home.stdout(&["--limit", "4MiB", "set", &format!("key {key}"), "value"]);
    }
    assert_eq!(home.json(&["check"])["problems"], Value::Array(vec![]));
    let file = home.path().join("home/default.fabric");
    let mut bytes = std::fs::read(&file).unwrap();
    // Behind the header: whatever stands there, it is wrong now.
    let start = bytes.len() / 64;
    for byte in &mut bytes[start..] {
        *byte ^= 0x55;
    }
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
    let output = home.run(&["check"]);
    assert!(matches!(output.status.code(), Some(1 | 3)), "{output:?}");
    assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
}

#[test]
fn a_file_that_is_no_fabric_is_named_and_can_be_removed() {
    let home = Home::new();
    home.stdout(&["set", "a", "1"]);
    let file = home.path().join("home/default.fabric");
    std::fs::write(&file, b"garbage").unwrap();
    for command in [&["get", "a"][..], &["check"], &["stat"]] {
        let output = home.run(command);
        assert_code(&output, 3, command);
        assert!(String::from_utf8_lossy(&output.stderr).contains("NOT_A_FABRIC"), "{output:?}");
    }
    home.stdout(&["rm", "default"]);
    assert!(!file.exists());
}

#[test]
fn what_does_not_exist_is_an_error_with_a_name_in_both_formats() {
    let home = Home::new();
    for command in [&["get", "a"][..], &["stat"], &["check"], &["tail", "news"], &["rm", "default"]] {
        let output = home.run(command);
        assert_code(&output, 3, command);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("NOT_FOUND") && text.contains("try:"), "{command:?}: {text}");
    }
    let output = home.run(&["--format", "json", "get", "a"]);
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["name"], "NOT_FOUND");
    assert!(error["error"]["remedy"].is_string());
}

#[test]
fn wrong_arguments_end_with_2_and_open_nothing() {
    let home = Home::new();
    for command in [
        &["set", "a"][..],
        &["get", ""],
        &["frobnicate"],
        &["check", "../etc"],
        &["set", "a", "1", "--ttl", "soon"],
        &["--limit", "12", "set", "a", "1"],
    ] {
        assert_code(&home.run(command), 2, command);
    }
    assert!(!home.path().join("home").exists());
}

#[test]
fn doctor_looks_at_the_host_and_says_so_in_both_formats() {
    let home = Home::new();
    let text = String::from_utf8(home.run(&["doctor"]).stdout).unwrap();
    for topic in ["home: permissions", "overcommit", "memory limit of the group", "kernel: OFD locks"] {
        assert!(text.contains(topic), "{topic}: {text}");
    }
    let findings = home.json(&["doctor"]);
    for finding in findings["findings"].as_array().unwrap() {
        assert_eq!(finding["remedy"].is_null(), finding["level"] == "ok", "{finding}");
    }
    std::fs::create_dir(home.path().join("home")).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(home.path().join("home"), everybody).unwrap();
    assert_code(&home.run(&["doctor"]), 1, &["doctor"]);
}

#[test]
fn version_is_that_of_the_package() {
    let home = Home::new();
    assert_eq!(home.stdout(&["version"]), format!("memora {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert_eq!(home.json(&["version"])["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn stress_workers_write_a_history_with_questions_and_answers() {
    let home = Home::new();
    for (work, op) in [
        ("kv", "\"op\":\"set\""),
        ("evict", "\"op\":\"set\""),
        ("queue", "\"op\":\"send\""),
        ("work", "\"op\":\"ack\""),
    ] {
        let history = home.path().join(format!("{work}.jsonl"));
        let file = history.to_str().unwrap();
        // Both on one fabric: the objects have names of their own.
        home.stdout(&[
            "--fabric",
            "storm",
            "stress",
            work,
            "--seed",
            "a test",
            "--history",
            file,
            "--ops",
            "200",
        ]);
        let text = std::fs::read_to_string(&history).unwrap();
        assert!(text.contains(op), "{text}");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["c"].is_string() && line["t0"].is_u64(), "{line}");
        }
        assert!(text.lines().filter(|line| line.contains("\"t1\"")).count() >= 200, "{work}");
        assert_eq!(home.json(&["check", "storm"])["problems"], Value::Array(vec![]));
    }
}

#[test]
fn scan_prints_entries_in_the_order_of_their_keys() {
    let home = Home::new();
    for key in ["pear", "apple", "plum", "fig", "pea"] {
        home.stdout(&[
            "store",
            "--store",
            "fruits",
            "--durability",
            "process",
            "--ordered",
            "set",
            key,
            &key.to_uppercase(),
        ]);
    }
    let scan = |arguments: &[&str]| {
        let all = [&["scan", "fruits"], arguments].concat();
        String::from_utf8(home.stdout(&all)).unwrap()
    };
    assert_eq!(scan(&[]), "apple\tAPPLE\nfig\tFIG\npea\tPEA\npear\tPEAR\nplum\tPLUM\n");
    assert_eq!(scan(&["--prefix", "pea"]), "pea\tPEA\npear\tPEAR\n");
    assert_eq!(scan(&["--from", "fig", "--to", "pear"]), "fig\tFIG\npea\tPEA\n");
    assert_eq!(scan(&["--from", "fig", "--to", "pear", "--reverse"]), "pea\tPEA\nfig\tFIG\n");
    assert_eq!(scan(&["--reverse", "--count", "2"]), "plum\tPLUM\npear\tPEAR\n");
    let last = home.json(&["scan", "fruits", "--reverse", "--count", "1"]);
    assert_eq!((&last["key"], &last["value"]), (&"plum".into(), &"PLUM".into()));
    // None is a no; no such store, one without order and two ways of saying what, are errors.
    let none = home.run(&["scan", "fruits", "--prefix", "x"]);
    assert_code(&none, 1, &["scan", "--prefix", "x"]);
    assert_eq!(none.stdout, b"");
    home.stdout(&["store", "--store", "plain", "--durability", "process", "set", "a", "1"]);
    for arguments in [
        &["scan", "absent"][..],
        &["scan", "plain"],
        &["scan", "fruits", "--prefix", "a", "--from", "b"],
        &["store", "--store", "plain", "--durability", "process", "--ordered", "get", "a"],
    ] {
        let output = home.run(arguments);
        assert!(output.status.code().is_some_and(|code| code > 1), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_feed_prints_changes_and_goes_on_behind_any_of_them() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("fed").display().to_string();
    let store = |more: &[&str]| home.stdout(&[&["store", "--store", "fed"], more].concat());
    store(&["--dir", &dir, "--feed-bytes", "64MiB", "set", "a", "1"]);
    store(&["set", "b/1", "x", "--flags", "7"]);
    store(&["set", "a", "2"]);
    store(&["del", "a"]);
    let feed = |more: &[&str]| {
        let text = home.stdout(&[&["feed", "fed", "--wait", "10ms"], more].concat());
        let lines: Vec<String> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
        lines
    };
    let all = feed(&["--from", "oldest"]);
    let said: Vec<&str> = all.iter().map(|line| line.split_once('\t').unwrap().1).collect();
    assert_eq!(said, ["set\ta\t1", "set\tb/1\tx", "set\ta\t2", "del\ta"]);
    for (number, line) in all.iter().enumerate() {
        let position = line.split_once('\t').unwrap().0;
        assert_eq!(feed(&["--from", position]), all[number + 1..], "behind {position}");
    }
    assert_eq!(feed(&["--from", "oldest", "-n", "1"]), all[..1]);
    assert_eq!(feed(&[]), [""; 0], "from now on");
    let json = home.json(&["feed", "fed", "--wait", "10ms", "--from", "oldest", "--prefix", "b/"]);
    assert_eq!((&json["key"], &json["value"], &json["flags"]), (&"b/1".into(), &"x".into(), &7.into()));
    assert_eq!((&json["deleted"], json["order"].is_u64()), (&false.into(), true));
    assert_eq!(json["position"], all[1].split_once('\t').unwrap().0);
    let rest = all[2].split_once('\t').unwrap().0;
    let json = home.json(&["feed", "fed", "--wait", "10ms", "--from", rest]);
    assert_eq!((&json["key"], &json["deleted"], json.get("value")), (&"a".into(), &true.into(), None));

    let stat = home.json(&["stat", "default", "fed"]);
    for figure in ["snapshots", "snapshots_cancelled", "snapshot_oldest_ms", "snapshot_bytes"] {
        assert_eq!(stat[figure], 0, "{figure} of {stat}");
    }
    store(&["checkpoint"]);
    assert!(home.json(&["check", "--dir", &dir])["feed_files"].as_u64().unwrap() > 0);
    let store_id = rest.split_once('.').unwrap().0;
    let ahead = home.run(&["feed", "fed", "--from", &format!("{store_id}.18446744073709551615.0")]);
    assert_code(&ahead, 3, &["feed"]);
    let foreign = home.run(&["feed", "fed", "--from", &rest.replacen(store_id, "0123456789abcdef", 1)]);
    assert_code(&foreign, 3, &["feed"]);
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("POSITION_FOREIGN"));
    assert!(String::from_utf8_lossy(&ahead.stderr).contains("POSITION_AHEAD"));
    store(&["--feed-bytes", "0", "flush"]);
    let none = home.run(&["feed", "fed"]);
    assert_code(&none, 3, &["feed"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("feed_bytes"));
    assert_code(&home.run(&["feed", "nothing"]), 3, &["feed"]);
    assert_code(&home.command(&["check"]).output().unwrap(), 0, &["check"]);
}

#[test]
fn one_who_follows_a_feed_sees_a_change_when_it_is_flushed() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("fed").display().to_string();
    let store = ["store", "--store", "fed", "--dir", &dir, "--feed-bytes", "64MiB"];
    home.stdout(&[&store[..], &["set", "key", "first"]].concat());
    let mut follower = home
        .command(&["feed", "fed", "--from", "oldest", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line.split_once('\t').unwrap().1.to_owned()
    };
    assert_eq!(next(), "set\tkey\tfirst\n");
    home.stdout(&[&store[..], &["set", "key", "second"]].concat());
    assert_eq!(next(), "set\tkey\tsecond\n");
    drop(lines);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

/// The one journal or checkpoint file with this prefix.
fn file_of(dir: &Path, prefix: &str) -> std::path::PathBuf {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
        .collect();
    names.sort();
    names.into_iter().next().unwrap_or_else(|| panic!("no {prefix} in {}", dir.display()))
}

#[test]
fn a_store_is_backed_up_checked_restored_and_repaired() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let files = at("files");
    for key in ["a", "b", "c"] {
        home.stdout(&["store", "--store", "orders", "--dir", &files, "set", key, "1"]);
    }
    home.stdout(&["backup", "orders", &at("backup")]);
    let again = home.run(&["backup", "orders", &at("backup")]);
    assert_code(&again, 3, &["backup"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("ALREADY_EXISTS"));
    let checked = home.json(&["check", "--dir", &at("backup")]);
    assert_eq!((&checked["kind"], &checked["records"]), (&"backup".into(), &3.into()));
    let checked = home.json(&["check", "--dir", &files]);
    assert_eq!((&checked["kind"], &checked["store"]), (&"store".into(), &"orders".into()));
    let stream = home.stdout(&["backup", "orders", "-"]);
    let output = home.feed(&["restore", "-", &at("copy"), "--name", "copy"], &stream);
    assert_code(&output, 0, &["restore"]);
    assert_eq!(home.stdout(&["store", "--store", "copy", "--dir", &at("copy"), "get", "b"]), b"1");
    let cut = home.feed(&["restore", "-", &at("cut")], &stream[..stream.len() - 512]);
    assert_code(&cut, 3, &["restore"]);
    assert!(String::from_utf8_lossy(&cut.stderr).contains("TRUNCATED"));
    let refused = home.run(&["restore", &at("backup"), &at("copy")]);
    assert_code(&refused, 3, &["restore"]);
    home.stdout(&["restore", &at("backup"), &at("copy"), "--overwrite"]);
    assert_eq!(home.json(&["check", "--dir", &at("copy")])["store"], "orders");

    // A bad record in the middle: three flushes, the second rots.
    let journal = file_of(Path::new(&files), "journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[4096 + 512 + 70] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    home.stdout(&["rm", "--force", "default"]);
    let refused = home.run(&["store", "--store", "orders", "--dir", &files, "get", "a"]);
    assert_code(&refused, 3, &["store"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("at byte 4608") && said.contains("memora repair"), "{said}");
    assert_code(&home.run(&["check", "--dir", &files]), 3, &["check"]);
    let dry = home.run(&["repair", &files]);
    assert_code(&dry, 1, &["repair"]);
    let told = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(told.contains("bytes 4608 to 5120: 1 record") && told.contains("2 records are kept"), "{told}");
    let done = home.json(&["repair", &files, "--yes"]);
    assert_eq!((&done["records"], &done["losses"][0]["records"]), (&2.into(), &1.into()));
    assert!(home.stdout(&["repair", &files]).ends_with(b"nothing to repair\n"));
    assert_eq!(home.stdout(&["store", "--store", "orders", "--dir", &files, "get", "a"]), b"1");
    assert_code(&home.run(&["store", "--store", "orders", "--dir", &files, "get", "b"]), 1, &["get"]);
}

#[test]
fn entries_are_exported_and_imported_between_caches_and_stores() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    home.stdout(&["set", "plain", "line\nbreak, and \"quotes\"", "--flags", "7"]);
    home.stdout(&["set", "short", "life", "--ttl", "1h"]);
    assert_code(&home.feed(&["set", "bytes", "-"], &[0xff, 0, 10]), 0, &["set"]);
    let lines = String::from_utf8(home.stdout(&["export", "cache"])).unwrap();
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.contains(r#"{"flags":7,"key":"plain""#) || lines.contains(r#""key":"plain""#), "{lines}");
    assert!(lines.contains(r#""value_base64":"/wAK""#) && lines.contains("expires_ms"), "{lines}");
    home.stdout(&["export", "cache", &at("entries.csv")]);
    for source in [None, Some(at("entries.csv"))] {
        for _ in 0..2 {
            let mut arguments = vec!["import", "kept"];
            arguments.extend(source.as_deref());
            let files = at("files");
            arguments.extend(["--dir", &files]);
            let output = home.feed(&arguments, lines.as_bytes());
            assert_code(&output, 0, &arguments);
            assert_eq!(output.stdout, b"kept: 3 entries\n");
        }
        let entry = home.json(&["store", "--store", "kept", "get", "plain"]);
        assert_eq!((&entry["value"], &entry["flags"]), (&"line\nbreak, and \"quotes\"".into(), &7.into()));
        assert!(home.json(&["store", "--store", "kept", "get", "short"])["ttl_ms"].is_u64());
        assert_eq!(home.stdout(&["store", "--store", "kept", "get", "bytes"]), [0xff, 0, 10]);
    }
    let bad = home.feed(&["import", "cache"], b"{\"key\":\"x\",\"value\":\"1\"}\n{\"key\":5}\n");
    assert_code(&bad, 3, &["import"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("line 2"));
    assert_code(&home.run(&["export", "nothing"]), 3, &["export"]);
}
