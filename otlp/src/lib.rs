//! Spans and metrics to an OpenTelemetry collector (OTLP), over HTTP or gRPC, for the edge and the app alike.
//!
//! [`Settings`] are what the caller's own configuration says and, where it says nothing, the standard's variables
//! (`OTEL_*`). A [`Client`] posts one message after the other to one address; it runs on the runtime that it is given,
//! so it may be asked from any thread. A [`Span`] becomes a message where it ends, in a bounded [`Queue`]; an [`Exporter`]
//! sends what is there in batches; metrics are messages that the caller makes, for a [`Client`] of theirs.
//!
//! Who makes telemetry never waits for it. What does not fit the queue, what a collector does not take and what is left
//! at the end is dropped, and [`Counts`] say so.
//!
//! # Why not the exporters of `opentelemetry-otlp`
//!
//! They read the variables themselves, and let them win over a configuration; say of a failure only that there was
//! one; count nothing; and speak gRPC through tonic, a second HTTP stack. The messages are those of
//! `opentelemetry-proto`, but those of spans, of which there are many, are written at once and not built first; gRPC is
//! the same message behind five bytes, over HTTP/2, by hyper, which both programs have already.

mod client;
mod exporter;
mod grpc;
mod health;
mod parent;
mod queue;
mod sampler;
mod settings;
mod span;
mod tls;
mod variables;
mod wire;

pub use client::{Client, ExportError};
pub use exporter::{Exporter, PAUSE_MAX};
pub use health::{Health, Taken, Watch};
pub use parent::Parent;
pub use queue::{Counts, Dropped, Queue};
pub use sampler::{Root, Sampler};
pub use settings::{Batching, Compression, Found, Given, Protocol, Settings, Signal, Target, is_absolute};
pub use span::{Kind, Link, Name, Span, SpanId, TraceId, Value};
pub use variables::Surroundings;
