// Command waxwing is the broker, the command line, and a small certificate authority.
//
// Each sub-command is a file of its own; root.go lists them. main.go is the only place that exits, exit.go
// the only one that turns errors into exit codes, and config.go holds the one table of configuration keys.
package main
