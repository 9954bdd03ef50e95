package publish_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waxwing-mq/waxwing/examples/orders/publish"
)

// Flags win over the environment, which wins over the defaults.
func TestParseConfig(t *testing.T) {
	env := map[string]string{"WAXWING_SERVER": "a:1,b:2", "WAXWING_CERT": "env.crt", "WAXWING_KEY": "env.key", "WAXWING_CA": "ca.crt", "ORDERS_COUNT": "7"}
	cfg, err := publish.ParseConfig([]string{"-cert", "flag.crt", "-topic", "shop"}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	want := publish.Config{Servers: []string{"a:1", "b:2"}, CertFile: "flag.crt", KeyFile: "env.key", CAFile: "ca.crt", Topic: "shop", Count: 7}
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
	if _, err := publish.ParseConfig([]string{"-nonsense"}, func(string) string { return "" }); err == nil {
		t.Error("an unknown flag was accepted")
	}
}
