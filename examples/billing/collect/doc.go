// Package collect is the example service "billing": it reads the orders back that
// the orders service published, and checks that none is missing, double, out of
// order, changed, or published by someone else. It uses nothing but the public client.
package collect
