package main

import "wproxy/abi"

// standing returns what the host is told to do alone: to answer with a message whose promise
// holds, as decide and serveWith would for a request with nothing in it that they look at, to repeat what they have
// said to one with conditions or a range, or of a variant, and to send one on for which there is nothing.
func (c *config) standing() (o abi.ObjectStanding, ok bool) {
	o = abi.ObjectStanding{
		AgeField: "age",
		LogField: "cache", LogValue: hit.String(),
		CounterHead: "wproxy_cache_requests_total;route=", CounterTail: ";result=" + hit.String(), // as countersOf has it
		PassValue: miss.String(), PassTail: ";result=" + miss.String(),
	}
	for _, p := range c.key {
		o.Key = addName(o.Key, p.kind()+p.name)
	}
	o.Repeats = oneClients[:]
	o.Absent = append(o.Absent, c.bypass...)
	if c.honour {
		o.Absent = append(o.Absent, "cache-control", "pragma")
	}
	// Where nothing is found decide looks at nothing else, and send and judge at authorization.
	o.Misses, o.Joins, o.MissAlone = true, c.collapse, []string{"authorization"}
	// What onRequest and endUnsafe do where the URL is all that an answer is about.
	o.SafeMethods, o.UnsafeShown = safeMethods[1:], locations[:]
	if c.purges() {
		o.OwnMethods = safeMethods[:1]
	}
	o.MethodValue, o.MethodTail = bypass.String(), ";result="+bypass.String()
	if c.status {
		o.TTLField, o.TTLPrefix = "cache-status", c.hit
	}
	return o, len(o.Absent) <= abi.MaxStandingFields
}

// lesser makes of an order, which a host has refused, one that says less but has the same key, and reports whether there is one: n is how
// often it has.
func lesser(o *abi.ObjectStanding, n int) (more bool) {
	switch n {
	case 0: // for one to which all methods are the same
		o.SafeMethods = nil
	case 1: // repeats nothing
		o.Absent, o.Repeats = append(o.Absent, o.Repeats...), nil
	case 2: // lets no misses by
		o.Misses, o.Joins = false, false
	case 3: // nor anything else
		o.PassValue, o.PassTail = "", ""
	}
	return n < 4
}

// promise returns what the host is told about a message: it may serve it for as long as it is fresh, if it is served
// as it is then.
func (m *meta) promise() abi.ObjectPromise {
	if m.kind != kindMessage || m.flags&flagNoCache != 0 || len(m.withhold) > 0 || m.upstream != "" || m.lifetime <= m.age {
		return abi.ObjectPromise{}
	}
	return abi.ObjectPromise{Since: m.stored, Age: m.age, Lifetime: m.lifetime}
}
