//! demo
use std::process::ExitCode;
use crate::cli::DemoArgs;
pub(crate) async fn run(_args: DemoArgs) -> Result<ExitCode, String> { Err("not yet".to_owned()) }
