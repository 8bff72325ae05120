//! One heap for all threads, and its memory given back after a burst. Touches the allocator.

/// Makes every thread allocate from one heap.
///
/// glibc gives threads heaps of their own, and what one thread frees there stays with the process while the next one
/// grows its own: ten threads that take turns at making segments of 4 MiB kept 50 MB. They hand large buffers to each
/// other and allocate seldom, so sharing a heap costs them nothing that could be measured.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a number for the allocator, which takes it under its own lock; at the start there is only one thread.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what is free anywhere in the heap: what a burst of work leaves behind lies below what is still used, and
/// would stay with the process.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator looks at its own lists under its own lock.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
