//! The in-memory store behind weather: commits take time, calls fail before or after they took effect, watches break.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use store::{Backend, Error, Kv, Outcome, Page, Range, Read, Revision, Watch, Write, memory::Memory};

use crate::weather::Weather;

/// A store that fails as the weather is. Its contents survive whoever uses it.
#[derive(Clone)]
pub struct Weathered {
    inner: Memory,
    weather: Arc<Weather>,
}

impl Weathered {
    pub fn new(weather: Arc<Weather>) -> Self {
        Self {
            inner: Memory::new(),
            weather,
        }
    }

    /// The store itself, which never fails.
    pub fn calm(&self) -> &Memory {
        &self.inner
    }

    fn fail(&self, doing: &'static str) -> Result<(), Error> {
        match self.weather.strikes(|climate| climate.store) {
            true => Err(unavailable(doing)),
            false => Ok(()),
        }
    }
}

fn unavailable(doing: &'static str) -> Error {
    Error::unavailable(doing, std::io::Error::other("lightning"))
}

#[async_trait]
impl Backend for Weathered {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        self.fail("reading a key")?;
        self.inner.get(key).await
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        self.fail("reading a range")?;
        self.inner.range(prefix, page, at).await
    }

    async fn write(&self, write: Write) -> Result<Outcome, Error> {
        self.weather.delay().await;
        self.fail("writing")?;
        let outcome = self.inner.write(write).await?;
        self.weather.delay().await;
        match self.fail("waiting for a commit") {
            Ok(()) => Ok(outcome),
            Err(error) => Err(Error::undecided("committing", error)),
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        self.fail("watching")?;
        let watch = self.inner.watch(prefix, from).await?;
        let asker = watch.asker();
        let weather = self.weather.clone();
        let signals = watch
            .map(move |signal| match weather.strikes(|climate| climate.store / 4.0) {
                true => Err(unavailable("following changes")),
                false => signal,
            })
            .scan(false, |failed, signal| {
                let item = (!*failed).then_some(signal);
                *failed |= matches!(item, Some(Err(_)));
                std::future::ready(item)
            });
        Ok(Watch::new(signals, move || asker.ask()))
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.inner.compact(to).await
    }
}
