//! The `memora` command: looks into fabrics, changes them, checks them.

mod cli;
mod command;
mod doctor;
mod output;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use cli::{Cli, Format};
use output::{Answer, Failure, Output};

/// Exit codes; those of wrong arguments (2) come from clap.
const DONE: u8 = 0;
const NO: u8 = 1;
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.global.format;
    let code = match command::run(cli, &mut Output::new(format)) {
        Ok(Answer::Yes) | Err(Failure::ClosedPipe) => DONE,
        Ok(Answer::No) => NO,
        Ok(Answer::Code(code)) => code,
        Err(failure) => {
            report(&failure, format);
            FAILED
        }
    };
    ExitCode::from(code)
}

fn report(failure: &Failure, format: Format) {
    let (name, what, remedy) = match failure {
        Failure::Memora(error) => (error.code().name(), error.detail().to_owned(), error.remedy()),
        Failure::Io(place, error) => ("IO", format!("{place}: {error}"), "Read the system's reason."),
        Failure::ClosedPipe => return,
    };
    match format {
        Format::Text => eprintln!("memora: {what}\n  try: {remedy} [{name}]"),
        Format::Json => eprintln!("{}", json!({ "error": { "name": name, "what": what, "remedy": remedy } })),
    }
}
