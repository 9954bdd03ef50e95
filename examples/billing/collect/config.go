package collect

import (
	"flag"
	"strconv"
	"strings"
)

// Config says where to read, as whom, and what to expect.
type Config struct {
	Servers                   []string
	CertFile, KeyFile, CAFile string
	ServerName                string // default: the server's host name
	Topic                     string // default: "orders"
	Count                     int    // orders to wait for; 0: all that are there now
	Publisher                 string // identity that must have published every order; "": any one
	Checksum                  string // that the orders must have; "": any
}

// ParseConfig reads flags, and what no flag sets from the environment: WAXWING_SERVER,
// WAXWING_CERT, WAXWING_KEY, WAXWING_CA, WAXWING_SERVER_NAME, ORDERS_TOPIC,
// ORDERS_COUNT, ORDERS_PUBLISHER and ORDERS_CHECKSUM.
func ParseConfig(args []string, getenv func(string) string) (Config, error) {
	var cfg Config
	var servers string
	fs := flag.NewFlagSet("billing", flag.ContinueOnError)
	fs.StringVar(&servers, "server", getenv("WAXWING_SERVER"), "broker addresses, HOST:PORT, joined by commas")
	fs.StringVar(&cfg.CertFile, "cert", getenv("WAXWING_CERT"), "client certificate, PEM `file`")
	fs.StringVar(&cfg.KeyFile, "key", getenv("WAXWING_KEY"), "private key, PEM `file`")
	fs.StringVar(&cfg.CAFile, "ca", getenv("WAXWING_CA"), "roots the broker must chain to, PEM `file`")
	fs.StringVar(&cfg.ServerName, "server-name", getenv("WAXWING_SERVER_NAME"), "host name in the broker's certificate (default: the server's)")
	fs.StringVar(&cfg.Topic, "topic", getenv("ORDERS_TOPIC"), "topic to read (default: orders)")
	count, _ := strconv.Atoi(getenv("ORDERS_COUNT")) // not a number: the default
	fs.IntVar(&cfg.Count, "count", count, "how many orders to wait for (default: all that are there now)")
	fs.StringVar(&cfg.Publisher, "publisher", getenv("ORDERS_PUBLISHER"), "identity that must have published every order")
	fs.StringVar(&cfg.Checksum, "checksum", getenv("ORDERS_CHECKSUM"), "checksum that the orders must have, as the orders service reports it")
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
	return c
}
