//! The command line: the command that needs no name, and mistakes told in one line.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    CommandFactory, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The process's arguments, with `default` as the command if they name none.
pub fn with_default_command<Cli: CommandFactory>(default: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let commands = Cli::command();
    let named = |argument: &OsString| {
        let Some(argument) = argument.to_str() else {
            return false;
        };
        ["help", "--help", "-h", "--version", "-V"].contains(&argument)
            || commands
                .get_subcommands()
                .any(|command| command.get_name() == argument)
    };
    if !arguments.iter().skip(1).any(named) {
        let after_program = arguments.len().min(1);
        arguments.insert(after_program, default.into());
    }
    arguments
}

/// Prints the help that was asked for, or what is wrong in one line.
pub fn explain(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            error.print().ok();
            return ExitCode::SUCCESS;
        }
        ErrorKind::ValueValidation => eprintln!("error: {}", wrong_value(error)),
        _ => {
            let text = error.to_string();
            let first: Vec<&str> = text
                .lines()
                .take_while(|line| !line.is_empty())
                .map(str::trim)
                .collect();
            eprintln!("{}; see --help", first.join(" "));
        }
    }
    ExitCode::FAILURE
}

/// Leaves the value out: it may be a secret that is one character too short.
fn wrong_value(error: &Error) -> String {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag,
        _ => "a setting",
    };
    let reason = std::error::Error::source(error).map(ToString::to_string);
    format!(
        "{flag} is wrong: {}",
        reason.unwrap_or_else(|| "see --help".to_owned())
    )
}
