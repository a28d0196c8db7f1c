//! The command line of Mainstem.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the options that all commands share; the help texts are the comments of each command's `Args` |
//! | `nodes` | builds a router from the URLs |
//! | `failure` | why a command failed, and the exit status of each reason |
//! | `secrets` | keeps passwords out of everything that is printed |
//! | `interrupt` | Ctrl-C |
//! | `output` | lines on standard output, lines and progress on standard error |
//! | `time`, `record` | times and events as JSON |
//! | `filter` | builds a filter from options |
//! | `commands` | a file or folder for each command |

// They panic when nobody reads what they print, so that the exit status is 101 whatever has happened.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod commands;
mod failure;
mod filter;
mod interrupt;
mod nodes;
mod output;
mod record;
mod secrets;
mod time;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Cli, failure::Failure, interrupt::Interrupt};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // The parser quotes what it does not understand, which may be a URL.
            output::say(secrets::hidden(&error.render().to_string()).trim_end());
            return ExitCode::from(failure::USAGE);
        }
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(format_args!("mainstem: cannot start the runtime: {error}"));
            return ExitCode::from(failure::FAILED);
        }
    };
    let result = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        commands::run(cli, &interrupt).await
    });
    // Connections and probes need no orderly shutdown.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message, .. }) => {
            if !message.is_empty() {
                output::say(format_args!("mainstem: {}", secrets::hidden(&message)));
            }
            ExitCode::from(status)
        }
    }
}
