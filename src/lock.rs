//! Locks whose last holder may have panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock in any case: no section leaves behind what the next one could not work with, so a panic elsewhere ends
/// nothing here.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
