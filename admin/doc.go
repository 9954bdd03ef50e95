// Package admin serves the HTTPS surface of a node over mutual TLS: /metrics, /livez and
// /readyz.
//
// Who may ask is decided as everywhere: by the certificate. A client needs the verb observe or
// admin; a node's own certificate may GET /livez and /readyz only, which is what `waxwing healthcheck`
// does. There is no other page, and none that changes anything.
package admin
