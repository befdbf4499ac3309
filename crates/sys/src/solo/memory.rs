//! Giving memory back that only the beginning needed.

/// How far below the caller's frame the stack is searched for pages.
const STACK_BYTES: usize = 256 * 1024;
const PAGE: usize = 4096;

/// Gives back the free pages of the heap, and those of the stack below the caller's frame.
///
/// For a process that will wait for long: what its start has touched would count as its own for ever.
#[inline(never)]
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only gives back what is free.
    unsafe {
        libc::malloc_trim(0);
    }
    let here = 0u8;
    // Two pages below this frame nothing is alive: the red zone and the frames of the calls to come are nearer, and they
    // are written before they are read.
    let end = (std::ptr::from_ref(&here).addr() & !(PAGE - 1)).saturating_sub(2 * PAGE);
    let start = end.saturating_sub(STACK_BYTES);
    // SAFETY: the range is below the stack pointer of the only thread, so nothing alive is in it; parts that are not mapped
    // are an error that does not matter. The heap and mappings are far from the stack (mmap keeps the stack's gap and limit free).
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED);
    }
}
