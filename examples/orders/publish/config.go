package publish

import (
	"flag"
	"strconv"
	"strings"
)

// Config says where to publish, as whom, and how many orders.
type Config struct {
	Servers                   []string
	CertFile, KeyFile, CAFile string
	ServerName                string // default: the server's host name
	Topic                     string // default: "orders"
	Count                     int    // default: 1000
}

// ParseConfig reads flags, and what no flag sets from the environment: WAXWING_SERVER,
// WAXWING_CERT, WAXWING_KEY, WAXWING_CA, WAXWING_SERVER_NAME, ORDERS_TOPIC and
// ORDERS_COUNT.
func ParseConfig(args []string, getenv func(string) string) (Config, error) {
	var cfg Config
	var servers string
	fs := flag.NewFlagSet("orders", flag.ContinueOnError)
	fs.StringVar(&servers, "server", getenv("WAXWING_SERVER"), "broker addresses, HOST:PORT, joined by commas")
	fs.StringVar(&cfg.CertFile, "cert", getenv("WAXWING_CERT"), "client certificate, PEM `file`")
	fs.StringVar(&cfg.KeyFile, "key", getenv("WAXWING_KEY"), "private key, PEM `file`")
	fs.StringVar(&cfg.CAFile, "ca", getenv("WAXWING_CA"), "roots the broker must chain to, PEM `file`")
	fs.StringVar(&cfg.ServerName, "server-name", getenv("WAXWING_SERVER_NAME"), "host name in the broker's certificate (default: the server's)")
	fs.StringVar(&cfg.Topic, "topic", getenv("ORDERS_TOPIC"), "topic to publish to (default: orders)")
	count, _ := strconv.Atoi(getenv("ORDERS_COUNT")) // not a number: the default
	fs.IntVar(&cfg.Count, "count", count, "how many orders (default: 1000)")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	cfg.Servers = strings.Split(servers, ",")
	return cfg, nil
}

func (c Config) withDefaults() Config {
	if c.Topic == "" {
		c.Topic = "orders"
	}
	if c.Count == 0 {
		c.Count = 1000
	}
	return c
}
