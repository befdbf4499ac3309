//! update and checkpoint.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use model::oci::LinuxResources;
use runtime::CheckpointRequest;

use super::{print, print_json};
use crate::args::{CheckpointArgs, Global, UpdateArgs};
use crate::{request, setup};

/// The most that is read of a resources document, in bytes.
const DOCUMENT_MAX: u64 = 1 << 20;

pub(super) async fn update(global: &Global, args: &UpdateArgs) -> anyhow::Result<ExitCode> {
    let container = setup::runtimes(global)?.find(&args.container).await?;
    let resources = match &args.resources {
        Some(file) => read(file)?,
        None => request::resources(&args.limits)?,
    };
    if resources == LinuxResources::default() {
        anyhow::bail!("update {}: no limit was given", container.id());
    }
    print_json(&container.update(resources).await?)?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<LinuxResources> {
    let name = || format!("resources {}", file.display());
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(DOCUMENT_MAX).read_to_string(&mut text).with_context(name)?;
    } else {
        std::fs::File::open(file)
            .with_context(name)?
            .take(DOCUMENT_MAX)
            .read_to_string(&mut text)
            .with_context(name)?;
    }
    serde_json::from_str(&text).with_context(name)
}

pub(super) async fn checkpoint(global: &Global, args: &CheckpointArgs) -> anyhow::Result<ExitCode> {
    let container = setup::runtimes(global)?.find(&args.container).await?;
    let images = std::path::absolute(&args.directory).context("checkpoint directory")?;
    let request =
        CheckpointRequest { images, leave_running: args.leave_running, ..CheckpointRequest::default() };
    container.checkpoint(request).await?;
    print(container.id())?;
    Ok(ExitCode::SUCCESS)
}
