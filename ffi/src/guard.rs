//! The border to C: the only place where pointers of the caller are followed, and where a panic is stopped.
//!
//! An entry calls [`call`] once, inside its one `unsafe` block, and thereby says that its pointers are those of a caller
//! who keeps to the header. The [`Border`] that it gets is the licence to read and write through them.
//!
//! What the library checks itself: NULL, lengths beyond what memory can hold, texts that are not UTF-8, handles. What no
//! library can check, and the header asks of the caller: that a pointer that is not NULL points to that many bytes.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use memora_core::{Error, ErrorCode, Result};

use crate::errors::{MEMORA_OK, remember};
use crate::handles::{self, Kind};

/// The licence to follow the pointers of one call.
pub(crate) struct Border {
    /// Not for other threads, and made here alone.
    _only_here: PhantomData<*const ()>,
}

/// Runs the body of an entry: an error becomes its code, and a panic, too.
///
/// # Safety
/// Every pointer that `body` gives to the border's methods is NULL or points to as many bytes as said beside it, which
/// nobody else writes (those that are read) or touches (those that are written) during the call.
#[inline]
pub(crate) unsafe fn call(body: impl FnOnce(&Border) -> Result<()>) -> c_int {
    let border = Border { _only_here: PhantomData };
    // A panic cannot leave anything of the caller's half written that is looked at later: out values are written whole,
    // and what is behind handles guards itself by locks.
    match catch_unwind(AssertUnwindSafe(|| body(&border))) {
        Ok(Ok(())) => MEMORA_OK,
        Ok(Err(error)) => remember(&error),
        Err(panic) => remember(&panicked(panic)),
    }
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => {
            // Dropping a payload of a type that nobody knows may panic in turn: this one is given up.
            std::mem::forget(panic);
            return ErrorCode::Internal.into();
        }
    };
    Error::new(ErrorCode::Internal, format!("Panic: {text}"))
}

#[cold]
fn invalid(text: String) -> Error {
    Error::new(ErrorCode::InvalidArgument, text)
}

/// A structure of options, as it was when the caller was compiled: the first field says how long that is.
///
/// # Safety
/// `repr(C)`, begins with `struct_size: usize`, has no padding, and every pattern of bits is a valid value.
pub(crate) unsafe trait Options: Copy {
    /// What an `_init` function writes, with the full size.
    const DEFAULT: Self;
    /// The name of the type in C.
    const NAME: &'static str;
}

/// A structure that the library fills, and that may grow.
///
/// # Safety
/// `repr(C)` and without padding.
pub(crate) unsafe trait Answer: Copy {}

/// No structure of options or answers will ever be longer.
const OPTIONS_LEN_MAX: usize = 4096;

impl Border {
    /// Bytes of the caller to read. NULL is allowed with length 0.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, data: *const c_void, len: usize, name: &str) -> Result<&'a [u8]> {
        if data.is_null() || len > isize::MAX as usize {
            return if len == 0 { Ok(&[]) } else { Err(bad_span(data.is_null(), len, name)) };
        }
        // SAFETY: not NULL, not longer than memory can be; that `len` bytes stand there is the licence of `call`.
        Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
    }

    /// A buffer of the caller to write. NULL is allowed with length 0.
    #[inline]
    #[allow(clippy::mut_from_ref)] // The slice comes from the pointer, the border only bounds its life.
    pub(crate) fn buffer<'a>(&'a self, data: *mut c_void, len: usize, name: &str) -> Result<&'a mut [u8]> {
        if data.is_null() || len > isize::MAX as usize {
            return if len == 0 { Ok(&mut []) } else { Err(bad_span(data.is_null(), len, name)) };
        }
        // SAFETY: as in `bytes`; that nobody else touches the buffer during the call is the licence of `call`.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
    }

    /// A text of the caller.
    pub(crate) fn text<'a>(&'a self, text: *const c_char, name: &str) -> Result<&'a str> {
        self.optional_text(text, name)?.ok_or_else(|| invalid(format!("`{name}` is NULL.")))
    }

    /// A text of the caller, or NULL.
    pub(crate) fn optional_text<'a>(&'a self, text: *const c_char, name: &str) -> Result<Option<&'a str>> {
        if text.is_null() {
            return Ok(None);
        }
        // SAFETY: not NULL; that a text with a NUL at its end stands there is the licence of `call`.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_str().map(Some).map_err(|_| invalid(format!("`{name}` is not UTF-8.")))
    }

    /// Elements of the caller to read. NULL is allowed with count 0.
    pub(crate) fn elements<'a, T: Copy>(
        &'a self,
        data: *const T,
        count: usize,
        name: &str,
    ) -> Result<&'a [T]> {
        if count == 0 {
            return Ok(&[]);
        }
        if data.is_null() || !data.is_aligned() || count > isize::MAX as usize / size_of::<T>().max(1) {
            return Err(bad_span(data.is_null(), count, name));
        }
        // SAFETY: not NULL, aligned, not longer than memory can be; that `count` elements stand there is the licence.
        Ok(unsafe { std::slice::from_raw_parts(data, count) })
    }

    /// Writes an answer; NULL says that the caller does not want it.
    #[inline]
    pub(crate) fn put<T: Copy>(&self, place: *mut T, value: T) {
        if !place.is_null() {
            // SAFETY: not NULL; that the place is the caller's is the licence of `call`. Alignment is not assumed.
            unsafe { place.write_unaligned(value) };
        }
    }

    /// Writes as much of an answer as the caller's structure of `size` bytes has room for, and zeros behind it.
    pub(crate) fn put_sized<T: Answer>(&self, place: *mut T, size: usize, value: T) -> Result<()> {
        if place.is_null() || !(size_of::<usize>()..=OPTIONS_LEN_MAX).contains(&size) {
            return Err(invalid(format!("A structure at {place:p} with {size} bytes cannot be filled.")));
        }
        let known = size.min(size_of::<T>());
        let bytes = place.cast::<u8>();
        // SAFETY: the caller vouches for `size` bytes; `value` has at least `known` without padding (trait).
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), bytes, known);
            bytes.add(known).write_bytes(0, size - known);
        }
        Ok(())
    }

    /// Refuses NULL for an answer that must not be thrown away, before anything is done.
    #[inline]
    pub(crate) fn wanted<T>(&self, place: *mut T, name: &str) -> Result<()> {
        if place.is_null() { Err(invalid(format!("`{name}` is NULL."))) } else { Ok(()) }
    }

    /// A descriptor of our own for a file that the caller has open.
    pub(crate) fn descriptor(&self, fd: c_int) -> Result<OwnedFd> {
        if fd < 0 {
            return Err(invalid(format!("{fd} is no descriptor.")));
        }
        // SAFETY: not -1; it is only used for the call that duplicates it, which answers with an error if it is not open.
        let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
        theirs
            .try_clone_to_owned()
            .map_err(|error| invalid(format!("The descriptor {fd} is not usable: {error}.")))
    }

    /// A function of the caller; `None` is NULL in C.
    pub(crate) fn function<F>(&self, function: Option<F>) -> Result<F> {
        function.ok_or_else(|| invalid("The function to call back is NULL.".to_owned()))
    }

    /// Gives a new handle to the caller, who must have a place for it.
    pub(crate) fn open<T: Kind>(
        &self,
        place: *mut *mut T::Opaque,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<()> {
        self.open_some(place, || make().map(Some))
    }

    /// The same, unless there is nothing to give a handle to: then the place gets NULL.
    pub(crate) fn open_some<T: Kind>(
        &self,
        place: *mut *mut T::Opaque,
        make: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<()> {
        self.wanted(place, T::NAME)?;
        self.put(place, std::ptr::null_mut());
        if let Some(made) = make()? {
            self.put(place, handles::pointer(handles::insert(made.into_object())?));
        }
        Ok(())
    }

    /// Options of the caller over the defaults; NULL means the defaults.
    pub(crate) fn options<T: Options>(&self, options: *const T) -> Result<T> {
        let mut read = T::DEFAULT;
        if options.is_null() {
            return Ok(read);
        }
        // SAFETY: not NULL; all options begin with their size, which is the licence of `call`.
        let size = unsafe { options.cast::<usize>().read_unaligned() };
        if !(size_of::<usize>()..=OPTIONS_LEN_MAX).contains(&size) {
            let text = format!("`struct_size` of {} is {size}; call its _init function first.", T::NAME);
            return Err(invalid(text));
        }
        let known = size.min(size_of::<T>());
        // SAFETY: the caller vouches for `struct_size` bytes and `read` has at least `known`; all bits are valid (trait).
        unsafe {
            std::ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut read).cast::<u8>(), known);
        }
        // SAFETY: within the `struct_size` bytes that the caller vouches for.
        let newer = unsafe { std::slice::from_raw_parts(options.cast::<u8>().add(known), size - known) };
        if newer.iter().any(|&byte| byte != 0) {
            let text = format!("{} has options that this version of the library does not know.", T::NAME);
            return Err(Error::new(ErrorCode::Unsupported, text));
        }
        Ok(read)
    }

    /// Writes the default options into a structure of the caller that has `size` bytes.
    pub(crate) fn init_options<T: Options>(&self, options: *mut T, size: usize) -> Result<()> {
        if options.is_null() || !(size_of::<usize>()..=OPTIONS_LEN_MAX).contains(&size) {
            let text = format!("{} at {options:p} with {size} bytes cannot be filled.", T::NAME);
            return Err(invalid(text));
        }
        let default = T::DEFAULT;
        let known = size.min(size_of::<T>());
        let bytes = options.cast::<u8>();
        // SAFETY: the caller vouches for `size` bytes; `default` has at least `known` without padding (trait).
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const default).cast::<u8>(), bytes, known);
            bytes.add(known).write_bytes(0, size - known);
            options.cast::<usize>().write_unaligned(size);
        }
        Ok(())
    }
}

#[cold]
fn bad_span(null: bool, len: usize, name: &str) -> Error {
    if null {
        return invalid(format!("`{name}` is NULL, its length {len}."));
    }
    invalid(format!("`{name}` has a length of {len}, or is not aligned."))
}
