//! The commands.

pub(crate) mod append;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod migrate;
pub(crate) mod tail;
pub(crate) mod verify;
pub(crate) mod watch;

use crate::{
    args::{Cli, Command},
    failure::Result,
    interrupt::Interrupt,
    nodes::Nodes,
};

pub(crate) async fn run(cli: Cli, interrupt: &Interrupt) -> Result<()> {
    let (nodes, log) = (Nodes::new(&cli.connection)?, cli.connection.log()?);
    match cli.command {
        Command::Doctor(args) => interrupt.or("nothing was changed", doctor::run(args, nodes, log)).await?,
        Command::Watch(args) => watch::run(args, nodes, interrupt).await,
        Command::Migrate(args) => migrate::run(args, nodes, log, interrupt).await,
        Command::Tail(args) => tail::run(args, nodes, log, interrupt).await,
        Command::Append(args) => append::run(args, nodes, log, interrupt).await,
        Command::Export(args) => export::run(args, nodes, log, interrupt).await,
        Command::Import(args) => import::run(args, nodes, log, interrupt).await,
        Command::Verify(args) => interrupt.or("nothing was changed", verify::run(args, nodes, log)).await?,
    }
}
