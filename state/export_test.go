package state

// Recode decodes a command and encodes it again.
func Recode(cmd []byte) ([]byte, error) {
	k, body, err := splitHead(cmd)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindInit:
		return recode(body, decodeInit, AppendInit)
	case kindPublish:
		return recode(body, decodePublish, AppendPublish)
	case kindCreateTopic:
		return recode(body, decodeCreateTopic, AppendCreateTopic)
	case kindAlterTopic:
		return recode(body, decodeAlterTopic, AppendAlterTopic)
	case kindDeleteTopic:
		return recode(body, decodeDeleteTopic, AppendDeleteTopic)
	case kindSetPolicy:
		return recode(body, decodeSetPolicy, AppendSetPolicy)
	case kindRevoke:
		return recode(body, decodeRevoke, AppendRevoke)
	case kindRotate:
		return recode(body, decodeRotate, AppendRotate)
	case kindTrim:
		return recode(body, decodeTrim, AppendTrim)
	case kindSetMember:
		return recode(body, decodeSetMember, AppendSetMember)
	case kindRemoveMember:
		return recode(body, decodeRemoveMember, AppendRemoveMember)
	case kindSetSealKey:
		return recode(body, decodeSetSealKey, AppendSetSealKey)
	case kindSetTicketKey:
		return recode(body, decodeSetTicketKey, AppendSetTicketKey)
	case kindRecover:
		return recode(body, decodeRecover, AppendRecover)
	case kindCreateGroup:
		return recode(body, decodeCreateGroup, AppendCreateGroup)
	case kindAlterGroup:
		return recode(body, decodeAlterGroup, AppendAlterGroup)
	case kindResetGroup:
		return recode(body, decodeResetGroup, AppendResetGroup)
	case kindDeleteGroup:
		return recode(body, decodeDeleteGroup, AppendDeleteGroup)
	case kindSettle:
		return recode(body, decodeSettle, AppendSettle)
	}
	return nil, kindError(k)
}

func recode[C any](body []byte, decode func([]byte) (C, error), encode func([]byte, *C) []byte) ([]byte, error) {
	c, err := decode(body)
	if err != nil {
		return nil, err
	}
	return encode(nil, &c), nil
}

func decodePublish(body []byte) (Publish, error) {
	var p publish
	err := p.decode(body)
	return Publish{
		Partition: p.partition, Incarnation: p.incarnation, Producer: p.producer, Epoch: p.epoch, Sequence: p.sequence,
		Info: p.info, Principal: string(p.principal), SPKI: p.spki, PolicyVersion: p.policyVersion, Records: p.records,
	}, err
}
