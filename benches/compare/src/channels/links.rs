//! What carries messages from one process to another: ours, and its Rust peers.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use iceoryx2::port::{listener::Listener, notifier::Notifier};
use iceoryx2::port::{publisher::Publisher as IceoryxPublisher, subscriber::Subscriber as IceoryxSubscriber};
use iceoryx2::prelude::{BackpressureStrategy, LogLevel, NodeBuilder, ipc, set_log_level};
use memora::{
    Appender, Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, FabricOptions, LogReader, MessageView,
    Publisher, ReadFrom, Retention, Service, ServiceOptions, Subscriber,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;

/// One direction between two processes.
#[derive(Clone, Debug)]
pub struct Place {
    /// A folder on tmpfs for all.
    pub folder: PathBuf,
    /// What tells this direction of this sample from all others.
    pub name: String,
    /// Bytes of each message.
    pub size: usize,
    /// Whether who waits sleeps.
    pub blocking: bool,
}

/// A message that came.
pub enum Came<'m> {
    /// Its bytes: copied out, or where they stand if the contestant gives them so.
    Bytes(&'m [u8]),
    /// Ours where it stands.
    View(&'m MessageView<'m>),
}

impl Came<'_> {
    /// How long it is.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match self {
            Came::Bytes(bytes) => bytes.len(),
            Came::View(view) => view.len(),
        }
    }

    /// The 8 bytes at `at` as a number.
    #[inline(always)]
    pub fn number_at(&self, at: usize) -> u64 {
        match self {
            Came::Bytes(bytes) => u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")),
            Came::View(view) => view.u64_at(at).expect("8 bytes"),
        }
    }
}

/// The sending end. It is made when the receiving one is there.
pub trait Out {
    /// Sends, and waits for room.
    fn send(&mut self, message: &[u8]);

    /// Sends what came, from where it stands.
    fn pass_on(&mut self, message: &Came<'_>) {
        match message {
            Came::Bytes(bytes) => self.send(bytes),
            Came::View(view) => self.send(&view.to_vec().expect("a sound channel")),
        }
    }
}

/// The receiving end.
pub trait In {
    /// Takes up to `limit` messages that are there.
    fn poll(&mut self, limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize;
    /// Takes one message at least, and sleeps until there is one.
    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>));
}

/// A pair of ends.
pub trait Link {
    /// The sending end.
    type Out: Out;
    /// The receiving end.
    type In: In;
    /// Makes the receiving end.
    fn receive(place: &Place) -> Self::In;
    /// Makes the sending end.
    fn send(place: &Place) -> Self::Out;
}

/// Our fabric in the folder.
pub fn fabric(folder: &Path) -> Fabric {
    FabricOptions::new().home(folder.join("memora")).open("bench").expect("a fabric of its own")
}

/// Our channel for messages of a size. The same for all samples: a channel stays for ever.
pub fn channel(fabric: &Fabric, name: &str, kind: ChannelKind, size: usize) -> Channel {
    let mut options = ChannelOptions { kind, ..ChannelOptions::default() };
    let mut name = name.to_owned();
    if size > 4096 {
        options.lane_bytes = 1 << 20;
        name += "-large";
    }
    fabric.channel(&name, &options).expect("a channel")
}

/// A stream of ours.
pub struct Memora;

impl Link for Memora {
    type Out = Publisher;
    type In = Subscriber;

    fn receive(place: &Place) -> Subscriber {
        let direction = place.name.split('-').next().unwrap_or_default();
        let channel = channel(&fabric(&place.folder), direction, ChannelKind::Stream, place.size);
        channel.subscriber().expect("the subscription")
    }

    fn send(place: &Place) -> Publisher {
        let direction = place.name.split('-').next().unwrap_or_default();
        let channel = channel(&fabric(&place.folder), direction, ChannelKind::Stream, place.size);
        channel.publisher().expect("a lane")
    }
}

impl Out for Publisher {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        Publisher::send(self, message).expect("sent");
    }

    #[inline]
    fn pass_on(&mut self, message: &Came<'_>) {
        match message {
            Came::Bytes(bytes) => Publisher::send(self, bytes),
            Came::View(view) => self.forward(view),
        }
        .expect("sent");
    }
}

impl In for Subscriber {
    #[inline]
    fn poll(&mut self, limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        let taken = self.poll_in_place(limit, |view| {
            take(&Came::View(view));
            Ok(())
        });
        taken.expect("a sound channel")
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        thread_local!(static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) });
        BUFFER.with_borrow_mut(|buffer| {
            self.recv(buffer, None).expect("a sound channel").expect("no time limit");
            take(&Came::Bytes(buffer));
        });
    }
}

/// The same stream of ours, each message copied out before it is looked at.
pub struct Copied;

/// The receiving end.
pub struct CopiedIn(Subscriber);

impl Link for Copied {
    type Out = Publisher;
    type In = CopiedIn;

    fn receive(place: &Place) -> CopiedIn {
        CopiedIn(Memora::receive(place))
    }

    fn send(place: &Place) -> Publisher {
        Memora::send(place)
    }
}

impl In for CopiedIn {
    #[inline]
    fn poll(&mut self, limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        self.0.poll(limit, |_, message| take(&Came::Bytes(message))).expect("a sound channel")
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        self.0.wait(take);
    }
}

/// A log of ours that blocks, read under a name: what is sent is kept until it was read. The same for all samples, as channels are.
pub struct Log;

impl Log {
    fn channel(place: &Place) -> Channel {
        let direction = place.name.split('-').next().unwrap_or_default();
        let retention = Retention { bytes: LOG_BYTES, age: None };
        let options = ChannelOptions {
            kind: ChannelKind::Log,
            retention: Some(retention),
            ..ChannelOptions::default()
        };
        fabric(&place.folder).channel(&format!("{direction}-log"), &options).expect("a log")
    }
}

/// Bytes of a log: a message of 64 KiB may take a 128th of it.
const LOG_BYTES: u64 = 16 << 20;

impl Link for Log {
    type Out = Appender;
    type In = LogReader;

    fn receive(place: &Place) -> LogReader {
        let mut reader = Log::channel(place).named_reader("bench", ReadFrom::Newest).expect("a reader");
        // What another sample left.
        reader.seek(ReadFrom::Newest).expect("at the end");
        reader
    }

    fn send(place: &Place) -> Appender {
        Log::channel(place).appender().expect("a block")
    }
}

impl Out for Appender {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        // An appender never waits: it says that its reader is behind.
        while let Err(error) = self.append(message) {
            assert!(error.code() == ErrorCode::LogFull, "{error}");
            std::hint::spin_loop();
        }
    }
}

impl In for LogReader {
    #[inline]
    fn poll(&mut self, limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        LogReader::poll(self, limit, |_, message| take(&Came::Bytes(message))).expect("a sound log")
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        let mut buffer = Vec::new();
        self.recv(&mut buffer, None).expect("a sound log").expect("no time limit");
        take(&Came::Bytes(&buffer));
    }
}

/// A service of ours for requests and replies of a size.
pub fn service(folder: &Path, size: usize) -> Service {
    let message_bytes = size.next_power_of_two().max(4096) as u32;
    let options = ServiceOptions { message_bytes, ..ServiceOptions::default() };
    fabric(folder).service(&format!("service-{message_bytes}"), &options).expect("a service")
}

/// iceoryx2: messages by publish-subscribe, from loaned memory; who sleeps is woken by its events.
pub struct Iceoryx;

type IceoryxNode = iceoryx2::node::Node<ipc::Service>;

/// Messages that wait for a subscriber at most.
const ICEORYX_BUFFER: usize = 256;

/// The sending end.
pub struct IceoryxOut {
    publisher: IceoryxPublisher<ipc::Service, [u8], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    is_first: bool,
    _node: IceoryxNode,
}

/// The receiving end.
pub struct IceoryxIn {
    subscriber: IceoryxSubscriber<ipc::Service, [u8], ()>,
    listener: Listener<ipc::Service>,
    _node: IceoryxNode,
}

fn iceoryx(
    place: &Place,
) -> (
    IceoryxNode,
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>,
    iceoryx2::service::port_factory::event::PortFactory<ipc::Service>,
) {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>().expect("a node");
    let folder = place.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = format!("{folder}/{}", place.name);
    let service = node
        .service_builder(&name.as_str().try_into().expect("a name"))
        .publish_subscribe::<[u8]>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(ICEORYX_BUFFER)
        .open_or_create()
        .expect("a service");
    let event = node
        .service_builder(&format!("{name}/wake").as_str().try_into().expect("a name"))
        .event()
        .open_or_create()
        .expect("an event");
    (node, service, event)
}

impl Link for Iceoryx {
    type Out = IceoryxOut;
    type In = IceoryxIn;

    fn receive(place: &Place) -> IceoryxIn {
        let (node, service, event) = iceoryx(place);
        let subscriber =
            service.subscriber_builder().buffer_size(ICEORYX_BUFFER).create().expect("a subscriber");
        let listener = event.listener_builder().create().expect("a listener");
        IceoryxIn { subscriber, listener, _node: node }
    }

    fn send(place: &Place) -> IceoryxOut {
        let (node, service, event) = iceoryx(place);
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(place.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        let notifier = place.blocking.then(|| event.notifier_builder().create().expect("a notifier"));
        IceoryxOut { publisher, notifier, is_first: true, _node: node }
    }
}

impl Out for IceoryxOut {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        let sample = self.publisher.loan_slice_uninit(message.len()).expect("memory for a message");
        sample.write_from_slice(message).send().expect("sent");
        if let Some(notifier) = &self.notifier {
            notifier.notify().expect("notified");
        }
        if std::mem::take(&mut self.is_first) {
            // A subscriber that has not yet met this publisher loses what its buffer does not hold.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl In for IceoryxIn {
    #[inline]
    fn poll(&mut self, limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(sample) = self.subscriber.receive().expect("a sound service")
        {
            take(&Came::Bytes(sample.payload()));
            taken += 1;
        }
        taken
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        while self.poll(1, take) == 0 {
            self.listener.blocking_wait(|_| ()).expect("woken");
        }
    }
}

/// Bytes that a socket or a pipe brought, cut into messages.
struct Cutter {
    bytes: Vec<u8>,
    filled: usize,
    size: usize,
}

impl Cutter {
    fn new(size: usize) -> Cutter {
        Cutter { bytes: vec![0; (128 << 10).max(2 * size)], filled: 0, size }
    }

    /// Reads once and gives what is whole. None if there was nothing.
    fn read(&mut self, from: &mut impl Read, take: &mut impl FnMut(&Came<'_>)) -> usize {
        match from.read(&mut self.bytes[self.filled..]) {
            Ok(0) => panic!("the other side is gone"),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
            Err(error) => panic!("{error}"),
        }
        let whole = self.filled / self.size;
        for message in self.bytes[..whole * self.size].chunks_exact(self.size) {
            take(&Came::Bytes(message));
        }
        self.bytes.copy_within(whole * self.size..self.filled, 0);
        self.filled -= whole * self.size;
        whole
    }
}

fn write_all(to: &mut impl Write, mut message: &[u8]) {
    while !message.is_empty() {
        match to.write(message) {
            Ok(written) => message = &message[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A Unix-domain socket of type stream, one write for each message.
pub struct Socket;

/// The receiving end: one who connects.
pub struct SocketIn {
    listener: UnixListener,
    stream: Option<UnixStream>,
    cutter: Cutter,
    blocking: bool,
}

impl Link for Socket {
    type Out = UnixStream;
    type In = SocketIn;

    fn receive(place: &Place) -> SocketIn {
        let listener = UnixListener::bind(place.folder.join(&place.name)).expect("a socket");
        SocketIn { listener, stream: None, cutter: Cutter::new(place.size), blocking: place.blocking }
    }

    fn send(place: &Place) -> UnixStream {
        let stream = UnixStream::connect(place.folder.join(&place.name)).expect("somebody listens");
        stream.set_nonblocking(!place.blocking).expect("a mode");
        stream
    }
}

impl Out for UnixStream {
    fn send(&mut self, message: &[u8]) {
        write_all(self, message);
    }
}

impl In for SocketIn {
    fn poll(&mut self, _limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        let SocketIn { listener, stream, cutter, blocking } = self;
        let stream = stream.get_or_insert_with(|| {
            let (stream, _) = listener.accept().expect("somebody connects");
            stream.set_nonblocking(!*blocking).expect("a mode");
            stream
        });
        cutter.read(stream, take)
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        while self.poll(1, take) == 0 {}
    }
}

/// A pipe, one write for each message.
pub struct Pipe;

/// The receiving end.
pub struct PipeIn {
    file: File,
    cutter: Cutter,
}

impl Link for Pipe {
    type Out = File;
    type In = PipeIn;

    fn receive(place: &Place) -> PipeIn {
        let path = place.folder.join(&place.name);
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        // Writable, too: so the opening waits for nobody, and no end is seen before the other side comes.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .expect("a pipe");
        // The largest that a user may have; where that is refused the default stays.
        let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(1 << 20));
        if place.blocking {
            fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).expect("a mode");
        }
        PipeIn { file, cutter: Cutter::new(place.size) }
    }

    fn send(place: &Place) -> File {
        let flags = if place.blocking { OFlag::empty() } else { OFlag::O_NONBLOCK };
        let path = place.folder.join(&place.name);
        OpenOptions::new().write(true).custom_flags(flags.bits()).open(path).expect("somebody reads")
    }
}

impl Out for File {
    fn send(&mut self, message: &[u8]) {
        write_all(self, message);
    }
}

impl In for PipeIn {
    fn poll(&mut self, _limit: usize, take: &mut impl FnMut(&Came<'_>)) -> usize {
        self.cutter.read(&mut self.file, take)
    }

    fn wait(&mut self, take: &mut impl FnMut(&Came<'_>)) {
        while self.poll(1, take) == 0 {}
    }
}
