//! Who wrote what: the apiserver's audit log.
//!
//! The log holds one JSON line for each finished create, update, patch or delete, whoever made it. The apiserver writes the
//! line while it finishes the answer, so a line may appear a moment after the client has its answer: a test that expects a
//! write polls for it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;

/// The audit policy that this module reads the result of.
pub(crate) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
";

/// One write that reached the apiserver, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditWrite {
    /// Who wrote: a user name such as `system:serviceaccount:NAMESPACE:NAME`. With impersonation, who was impersonated.
    pub user: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`. Server-side apply is a `patch`.
    pub verb: String,
    /// The API group, empty for the core group.
    pub api_group: String,
    /// The resource in plural, such as `configmaps`. Review objects such as `tokenreviews` are created, so they count.
    pub resource: String,
    /// The subresource, such as `status`; empty when there is none.
    pub subresource: String,
    /// The namespace, empty for a cluster-scoped object.
    pub namespace: String,
    /// The object's name, empty for `deletecollection` and for a refused `create`, whose body is never read.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the apiserver received the request.
    pub time: Timestamp,
}

/// The current length of the log. A log that is not there yet is empty.
pub(crate) fn length(log: &Path) -> anyhow::Result<u64> {
    match std::fs::metadata(log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", log.display())),
    }
}

/// The writes after an offset, oldest first. A last line that is not complete yet is left for the next call.
pub(crate) fn read(log: &Path, offset: u64) -> anyhow::Result<Vec<AuditWrite>> {
    let mut bytes = Vec::new();
    let mut file = File::open(log).with_context(|| format!("failed to open {}", log.display()))?;
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut bytes)
        .with_context(|| format!("failed to read {}", log.display()))?;
    let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&bytes[..complete]).context("the audit log is not UTF-8")?;
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> anyhow::Result<AuditWrite> {
    let event: Event = serde_json::from_str(line).with_context(|| format!("not an audit event: {line}"))?;
    Ok(AuditWrite {
        user: event.impersonated_user.unwrap_or(event.user).username,
        user_agent: event.user_agent,
        verb: event.verb,
        api_group: event.object_ref.api_group,
        resource: event.object_ref.resource,
        subresource: event.object_ref.subresource,
        namespace: event.object_ref.namespace,
        name: event.object_ref.name,
        code: event.response_status.code,
        time: event.request_received_timestamp,
    })
}

/// The fields of `audit.k8s.io/v1` `Event` that tests ask about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{length, read};

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","verb":"patch","user":{"username":"admin","groups":["system:masters"]},"impersonatedUser":{"username":"jane"},"userAgent":"kubectl","objectRef":{"resource":"deployments","namespace":"default","name":"web","apiGroup":"apps","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-23T10:00:00.123456Z","stageTimestamp":"2026-11-23T10:00:00.2Z"}"#;

    #[test]
    fn a_line_gives_who_wrote_what() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        assert_eq!(length(&log).unwrap(), 0);
        fs::write(&log, format!("{LINE}\n")).unwrap();
        let writes = read(&log, 0).unwrap();
        assert_eq!(writes.len(), 1);
        let write = &writes[0];
        assert_eq!(
            (write.user.as_str(), write.verb.as_str(), write.code),
            ("jane", "patch", 200)
        );
        assert_eq!(
            (write.api_group.as_str(), write.resource.as_str()),
            ("apps", "deployments")
        );
        assert_eq!((write.subresource.as_str(), write.name.as_str()), ("status", "web"));
        assert_eq!(write.time.to_string(), "2026-11-23T10:00:00.123456Z");
    }

    #[test]
    fn only_complete_lines_after_the_offset_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        fs::write(&log, format!("{LINE}\n{LINE}\n{{\"verb\":")).unwrap();
        let one = u64::try_from(LINE.len()).unwrap() + 1;
        assert_eq!(read(&log, 0).unwrap().len(), 2);
        assert_eq!(read(&log, one).unwrap().len(), 1);
        assert_eq!(read(&log, 2 * one).unwrap().len(), 0);
    }
}
