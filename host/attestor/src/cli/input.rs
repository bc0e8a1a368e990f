//! Files and standard input that a person hands to a command: `-` is standard input. A pipe will do, for `<(spire-server …)`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::Failure;

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// An input that is open, and how it is called in messages.
pub(super) struct Input {
    /// The file's name, or `standard input`.
    pub(super) name: String,
    reader: Box<dyn BufRead>,
}

/// A line of an input.
pub(super) enum Line {
    /// The line, without its end. Bytes that are no UTF-8 are replaced.
    Text(String),
    /// The line was longer than it may be, and was skipped.
    TooLong,
}

impl Input {
    /// Opens the file, of which at most `limit` bytes are read.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: &Path, limit: u64) -> Result<Input, Failure> {
        if path == Path::new("-") {
            return Ok(Input::of("standard input", io::stdin(), limit));
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Input::of(&name, file, limit)),
            Err(error) => Err(Failure::Usage(format!("{name} cannot be read: {error}"))),
        }
    }

    /// An input of this name.
    pub(super) fn of(name: &str, reader: impl io::Read + 'static, limit: u64) -> Input {
        let limited = Limited { reader, left: limit, limit };
        Input { name: name.to_owned(), reader: Box::new(BufReader::with_capacity(BUFFER, limited)) }
    }

    /// The whole input.
    pub(super) fn read(mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// The next line, of at most `limit` bytes. `None` at the end.
    pub(super) fn line(&mut self, limit: usize) -> Result<Option<Line>, Failure> {
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut bytes);
        if read.map_err(|error| self.unreadable(&error))? == 0 {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.len() > limit {
            self.reader.skip_until(b'\n').map_err(|error| self.unreadable(&error))?;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(Line::Text(String::from_utf8_lossy(&bytes).into_owned())))
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        Failure::Usage(format!("{} cannot be read: {error}", self.name))
    }
}

/// A reader that fails when more than `limit` bytes come, so that a cut input is never taken for a whole one.
struct Limited<R> {
    reader: R,
    left: u64,
    limit: u64,
}

impl<R: io::Read> io::Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match self.left.checked_sub(u64::try_from(read).unwrap_or(u64::MAX)) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it is larger than {} MiB", self.limit >> 20))),
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_too_large_is_an_error_and_a_line_that_is_too_long_is_skipped() {
        let text = format!("one\n{}\ntwo", "x".repeat(100));
        let mut input = Input::of("log", io::Cursor::new(text.clone()), 1 << 20);
        let mut lines = Vec::new();
        while let Some(line) = input.line(10).unwrap() {
            lines.push(match line {
                Line::Text(text) => text,
                Line::TooLong => "(too long)".to_owned(),
            });
        }
        assert_eq!(lines, ["one", "(too long)", "two"]);
        assert_eq!(Input::of("log", io::Cursor::new(text.clone()), 108).read().unwrap(), text.as_bytes());
        let failure = Input::of("log", io::Cursor::new(text), 107).read().unwrap_err();
        assert!(failure.to_string().starts_with("log cannot be read: it is larger than"), "{failure}");
    }
}
