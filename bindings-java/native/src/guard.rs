//! The border between the JVM and Rust: everything that could hurt the JVM happens in this file and in `handles`.
//!
//! Each exported function runs its body through [`guard`]: an error becomes a Java exception, a panic becomes the error
//! `INTERNAL`, and nothing unwinds into the JVM. Hot functions make no call back into the JVM at all: keys and values lie in
//! direct memory whose address Java passes. What calls the JVM (strings, arrays, exceptions) is off the hot path.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jni::objects::{JByteArray, JByteBuffer, JClass, JIntArray, JLongArray, JString, JValue};
use jni::sys::{jbyteArray, jint, jlong, jobject, jstring};
use jni::{EnvUnowned, jni_sig, jni_str};
use memora::{Error, ErrorCode};

/// Why a body ends without an answer.
pub enum Fault {
    /// An error of the library, still to be thrown.
    Memora(Error),
    /// A Java exception is pending already, or the JVM has no memory left for one.
    Pending,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Memora(error)
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Fault {
        Fault::Memora(code.into())
    }
}

impl From<jni::errors::Error> for Fault {
    fn from(error: jni::errors::Error) -> Fault {
        match error {
            jni::errors::Error::JavaException => Fault::Pending,
            other => {
                Fault::Memora(Error::new(ErrorCode::Internal, format!("The JVM refused a call: {other}.")))
            }
        }
    }
}

/// What a body answers.
pub type Answer<T> = Result<T, Fault>;

/// What the JVM gets when an exception is pending; it ignores the value.
pub trait Nothing {
    /// The value that nobody looks at.
    fn nothing() -> Self;
}

macro_rules! nothing {
    ($($type:ty = $value:expr),*) => { $(impl Nothing for $type { fn nothing() -> Self { $value } })* };
}
nothing!(() = (), bool = false, jint = 0, jlong = 0, jobject = std::ptr::null_mut());

/// The JVM as a native function sees it during one call.
pub struct Jvm<'local> {
    env: EnvUnowned<'local>,
    class: JClass<'local>,
}

/// Runs the body of a native function: errors and panics become exceptions.
#[inline]
pub fn guard<'local, T: Nothing>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    body: impl FnOnce(&mut Jvm<'local>) -> Answer<T>,
) -> T {
    let mut jvm = Jvm { env, class };
    match catch_unwind(AssertUnwindSafe(|| body(&mut jvm))) {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => jvm.fail(fault),
        Err(panic) => jvm.panicked(&panic),
    }
}

impl<'local> Jvm<'local> {
    #[cold]
    #[inline(never)]
    fn fail<T: Nothing>(&mut self, fault: Fault) -> T {
        if let Fault::Memora(error) = fault {
            // A panic while throwing must not unwind either; there is nothing left to say then.
            let _ = catch_unwind(AssertUnwindSafe(|| self.throw(&error)));
        }
        T::nothing()
    }

    #[cold]
    #[inline(never)]
    fn panicked<T: Nothing>(&mut self, panic: &(dyn Any + Send)) -> T {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        self.fail(Fault::Memora(Error::new(ErrorCode::Internal, format!("Panic at the border: {text}."))))
    }

    /// Calls `Native.raise`, which throws the exception of the error's code.
    fn throw(&mut self, error: &Error) {
        let class = &self.class;
        let outcome = self.env.with_env(|env| -> jni::errors::Result<()> {
            if env.exception_check() {
                return Ok(());
            }
            let text = env.new_string(error.to_string())?;
            env.call_static_method(
                class,
                jni_str!("raise"),
                jni_sig!("(ILjava/lang/String;J)V"),
                &[
                    JValue::Int(jint::from(error.code().number() as i16)),
                    JValue::Object(&text),
                    JValue::Long(error.amount() as jlong),
                ],
            )
            .map(|_| ())
        });
        // Either the exception is pending now, which is the aim, or the JVM has no memory and threw that instead.
        let _ = outcome.into_outcome();
    }

    /// The text of a Java string; `None` for null.
    pub fn text(&mut self, text: &JString<'local>) -> Answer<Option<String>> {
        if text.is_null() {
            return Ok(None);
        }
        self.cold(|env| text.try_to_string(env)).map(Some)
    }

    /// A new Java string.
    pub fn new_text(&mut self, text: &str) -> Answer<jstring> {
        self.cold(|env| env.new_string(text).map(|text| text.into_raw()))
    }

    /// A copy of `len` bytes of an array, from `start`; Java has checked the bounds, and the JVM checks them again.
    pub fn bytes(&mut self, array: &JByteArray<'local>, start: jint, len: jint) -> Answer<Vec<u8>> {
        if array.is_null() || start < 0 || len < 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.cold(|env| {
            let mut bytes = vec![0i8; len as usize];
            array.get_region(env, start, &mut bytes)?;
            Ok(bytes.into_iter().map(|byte| byte as u8).collect())
        })
    }

    /// A copy of a whole array.
    pub fn all_bytes(&mut self, array: &JByteArray<'local>) -> Answer<Vec<u8>> {
        if array.is_null() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.cold(|env| env.convert_byte_array(array))
    }

    /// A copy of a whole array of numbers.
    pub fn all_ints(&mut self, array: &JIntArray<'local>) -> Answer<Vec<jint>> {
        if array.is_null() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.cold(|env| {
            let mut numbers = vec![0; array.len(env)?];
            array.get_region(env, 0, &mut numbers)?;
            Ok(numbers)
        })
    }

    /// A copy of a whole array of handles.
    pub fn all_longs(&mut self, array: &JLongArray<'local>) -> Answer<Vec<jlong>> {
        if array.is_null() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.cold(|env| {
            let mut numbers = vec![0; array.len(env)?];
            array.get_region(env, 0, &mut numbers)?;
            Ok(numbers)
        })
    }

    /// A new direct buffer over memory that stays mapped for as long as Java keeps its part of the deal.
    pub fn new_direct(&mut self, address: usize, len: usize) -> Answer<jobject> {
        self.cold(|env| {
            // SAFETY: `len` bytes stand at `address` (a view says so, or a lane that is shared), and Java keeps the memory mapped
            // for as long as the buffer can be reached, and gives out read-only buffers over it alone.
            unsafe { env.new_direct_byte_buffer(address as *mut u8, len) }.map(|buffer| buffer.into_raw())
        })
    }

    /// A new Java array with these bytes.
    pub fn new_bytes(&mut self, bytes: &[u8]) -> Answer<jbyteArray> {
        self.cold(|env| env.byte_array_from_slice(bytes).map(|array| array.into_raw()))
    }

    /// The memory of a direct buffer, from `start` on.
    pub fn direct(&mut self, buffer: &JByteBuffer<'local>, start: jint, len: jint) -> Answer<Direct> {
        let (address, capacity) = self.cold(|env| {
            Ok((env.get_direct_buffer_address(buffer)?, env.get_direct_buffer_capacity(buffer)?))
        })?;
        let (start, len) = (usize::try_from(start).ok(), usize::try_from(len).ok());
        match (start, len) {
            (Some(start), Some(len)) if start.checked_add(len).is_some_and(|end| end <= capacity) => {
                Ok(Direct { address: address as usize + start, len })
            }
            _ => Err(ErrorCode::InvalidArgument.into()),
        }
    }

    fn cold<T>(&mut self, body: impl FnOnce(&mut jni::Env<'local>) -> jni::errors::Result<T>) -> Answer<T> {
        match self.env.with_env(body).into_outcome() {
            jni::Outcome::Ok(answer) => Ok(answer),
            jni::Outcome::Err(error) => Err(error.into()),
            jni::Outcome::Panic(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Memory outside the Java heap, which Java keeps alive and leaves alone for the duration of one call.
///
/// It comes from `io.memora.internal.Scratch` (an address asked for once, a length within its capacity) or from a
/// direct buffer that is an argument of the call.
#[derive(Clone, Copy)]
pub struct Direct {
    address: usize,
    len: usize,
}

impl Direct {
    /// Memory whose address Java passes as a number. Only `Scratch` makes such numbers.
    pub fn at(address: jlong, len: jint) -> Answer<Direct> {
        match usize::try_from(len) {
            Ok(len) if address > 0 => Ok(Direct { address: address as usize, len }),
            _ => Err(ErrorCode::InvalidArgument.into()),
        }
    }

    /// Where the memory begins, for Java to pass back.
    pub fn address(&self) -> jlong {
        self.address as jlong
    }

    /// The bytes, to be read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory belongs to a direct buffer that the Java caller holds until the call returns: a scratch of
        // the calling thread alone, or an argument (a JNI local reference keeps that alive). `address` is not null and
        // `len` lies within its capacity: `Scratch` hands out only ranges that it has checked, `Jvm::direct` checks
        // against the capacity. Direct buffers are zeroed when made, so all bytes are initialised. The documentation of
        // the public methods forbids to write a buffer while a call reads it.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.len) }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`. No second reference exists: key and value never overlap (`Scratch` gives them ranges of
        // their own; a user's buffer is only ever one argument of a call), and a `Direct` is made anew in each call.
        unsafe { std::slice::from_raw_parts_mut(self.address as *mut u8, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_lengths_that_cannot_be_are_refused() {
        for (address, len) in [(0, 1), (-8, 1), (8, -1)] {
            assert!(Direct::at(address, len).is_err(), "{address} {len}");
        }
        let bytes = [1u8, 2, 3];
        assert!(Direct::at(bytes.as_ptr() as jlong, 3).is_ok_and(|direct| direct.bytes() == bytes));
    }
}
