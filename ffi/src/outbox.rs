//! Entries of outboxes: channels as transactions send to them.
#![allow(unsafe_code)]

use std::ffi::c_int;

use memora_core::{Channel, Outbox};

use crate::channel::memora_channel_t;
use crate::guard::call;
use crate::handles;

/// A lane of a channel for the messages of transactions: memora_transaction_publish(). Open it with memora_channel_outbox(), close it
/// with memora_outbox_close(). May be used by any number of threads at once; while one commits, others that commit with the same outbox
/// wait for it. Threads that shall not have an outbox each.
#[allow(non_camel_case_types)]
pub struct memora_outbox_t {
    _opaque: [u8; 0],
}

/// Makes an outbox of a stream, a broadcast or a queue, with a lane as memora_publisher_open() has it.
///
/// On success `*outbox` is a new handle, to be closed with memora_outbox_close(); else it is NULL.
/// Returns what memora_publisher_open() does, and MEMORA_WRONG_KIND for a log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_outbox(
    channel: *mut memora_channel_t,
    outbox: *mut *mut memora_outbox_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(outbox, || {
                handles::with(handles::number(channel), |channel: &Channel| channel.outbox())
            })
        })
    }
}

/// Closes the handle. NULL is allowed and does nothing. What was sent stays for the subscribers, and transactions that have published
/// through it can still commit.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_outbox_close(outbox: *mut memora_outbox_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<Outbox>(handles::number(outbox))) }
}
