//! One command to one server over a plain blocking socket: for the harness's own control of its
//! processes.
//!
//! The driver's client would bring monitors, a pool and a runtime to what is one question and one
//! answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bson::Document;

const OP_MSG: i32 = 2013;
const HEADER: usize = 16;

/// The server's answer. A command that it refuses (`ok: 0`) is an error with its text.
pub fn ask(port: u16, db: &str, mut command: Document, patience: Duration) -> io::Result<Document> {
    command.insert("$db", db);
    let mut socket =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_nodelay(true)?;
    socket.write_all(&message(&command)?)?;

    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let rest = (i32::from_le_bytes(length) as usize)
        .checked_sub(length.len())
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut reply = vec![0; rest];
    socket.read_exact(&mut reply)?;
    // After the header come four bytes of flags and one that says: one document.
    let body = reply
        .get(HEADER - length.len() + 5..)
        .ok_or(io::ErrorKind::InvalidData)?;
    let reply = Document::from_reader(body).map_err(io::Error::other)?;
    match reply.get_f64("ok") {
        Ok(ok) if ok >= 1.0 => Ok(reply),
        _ => Err(io::Error::other(
            reply
                .get_str("errmsg")
                .unwrap_or("refused without a reason")
                .to_owned(),
        )),
    }
}

/// A message that asks for this command.
pub fn message(command: &Document) -> io::Result<Vec<u8>> {
    let body = bson::to_vec(command).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER + 5 + body.len());
    for number in [(HEADER + 5 + body.len()) as i32, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    Ok(message)
}

/// The command of a message, with the lists that travel in sections of their own. `None` for the
/// handshake's older form.
pub fn request(message: &[u8]) -> Option<Document> {
    if i32_at(message, 12)? != OP_MSG {
        return None;
    }
    let (mut command, mut lists) = (None, Vec::new());
    let mut at = HEADER + 4;
    while let Some(&kind) = message.get(at) {
        at += 1;
        let end = at + usize::try_from(i32_at(message, at)?).ok()?;
        match kind {
            0 => command = Document::from_reader(message.get(at..end)?).ok(),
            1 => lists.push(message.get(at + 4..end)?),
            // A checksum.
            _ => break,
        }
        at = end;
    }
    let mut command = command?;
    for list in lists {
        let split = list.iter().position(|byte| *byte == 0)?;
        let (name, mut rest) = (
            std::str::from_utf8(&list[..split]).ok()?,
            &list[split + 1..],
        );
        let mut documents = Vec::new();
        while !rest.is_empty() {
            documents.push(Document::from_reader(&mut rest).ok()?);
        }
        command.insert(name, documents);
    }
    Some(command)
}

/// A message that answers another one with this document.
pub fn reply(to: &[u8], reply: &Document) -> Option<Vec<u8>> {
    let mut reply = message(reply).ok()?;
    reply.get_mut(8..12)?.copy_from_slice(to.get(4..8)?);
    Some(reply)
}

/// A request in place of another one: the reply to it is the reply to that one.
pub fn replacement(of: &[u8], command: &Document) -> Option<Vec<u8>> {
    let mut request = message(command).ok()?;
    request.get_mut(4..8)?.copy_from_slice(of.get(4..8)?);
    Some(request)
}

fn i32_at(message: &[u8], at: usize) -> Option<i32> {
    let bytes = message.get(at..at + 4)?;
    Some(i32::from_le_bytes(bytes.try_into().ok()?))
}
