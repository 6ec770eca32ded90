//! System calls that a signal interrupts.

/// Makes a call again that a signal has interrupted, which is no failure of the disk: as one, it would poison a store. Not for ever.
pub fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    for _ in 0..100 {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other,
        }
    }
    call()
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn an_interrupted_call_is_made_again_but_not_for_ever_and_a_failed_one_is_not() {
        let mut calls = 0;
        let mut answer = |signals: u32, last| {
            calls = 0;
            let result = uninterrupted(|| {
                calls += 1;
                if calls <= signals { Err(Errno::EINTR) } else { last }
            });
            (result, calls)
        };
        assert_eq!(answer(0, Ok(7)), (Ok(7), 1));
        assert_eq!(answer(3, Ok(7)), (Ok(7), 4));
        assert_eq!(answer(3, Err(Errno::EIO)), (Err(Errno::EIO), 4));
        assert_eq!(answer(u32::MAX, Ok(7)).0, Err(Errno::EINTR));
    }
}
