//! What every binary needs: telemetry, admin server, readiness, shutdown, backoff, TLS files
