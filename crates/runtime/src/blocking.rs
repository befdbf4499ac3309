//! The one door between async callers and blocking work.
//!
//! Two bounds: quick work (files of one container) and long work (programs that are waited for), so that
//! hanging runtimes never keep a status or an exit waiting. Work that has begun goes to its end even if
//! the caller is gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::{Error, Result};

static QUICK: Semaphore = Semaphore::const_new(32);
static LONG: Semaphore = Semaphore::const_new(128);

static GOING: AtomicUsize = AtomicUsize::new(0);

/// How much goes on in this process that began and goes to its end whoever waits for it: blocking work, creates
/// and their undoing, stops. None: what dropped callers began is over.
#[must_use]
pub fn going() -> usize {
    GOING.load(Ordering::SeqCst)
}

/// Something that goes on, as long as this is held.
#[derive(Debug)]
pub(crate) struct Going(());

impl Going {
    pub(crate) fn begin() -> Self {
        GOING.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        GOING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs work that only touches files, on a thread that may block.
///
/// # Errors
/// The work's own; [`Error::Cancelled`] when the process is ending or the work panicked.
pub async fn quick<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    through(&QUICK, work).await
}

/// Runs work that may wait for a lock or a program, on a thread that may block.
///
/// # Errors
/// As [`quick`].
pub async fn long<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    through(&LONG, work).await
}

async fn through<T: Send + 'static>(
    door: &'static Semaphore,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let cancelled = || Error::Cancelled { op: "run", object: "blocking work".to_owned() };
    let going = Going::begin();
    let permit = door.acquire().await.map_err(|_| cancelled())?;
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop((permit, going));
        result
    })
    .await
    .map_err(|_| cancelled())?
}
