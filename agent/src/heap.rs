//! One heap for all threads. Touches the allocator's settings, once, at the start.

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
