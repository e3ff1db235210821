//! Which members an `asset` object of each kind has, and what is in them.
//!
//! After the table "`asset` per kind" of the API reference, section 7; scalars
//! are in `names`, since they repeat the name. Each kind has one member more
//! than declared.

/// What the elements of a member look like. All but the last group are arrays.
#[derive(Clone, Copy)]
pub enum Shape {
    Text,
    Host,
    Ip,
    Person,
    Int,
    Long,
    Millis,
    Flag,
    Place,
    MinHash,
    Digest,
    Source,
    Header,
    Attribute,
    Cookie,
    Cert,
    Service,
    Component,
    Words,
    Soa,
    Alexa,
    Reputation,
    Block,
    Resource,
    Banner,
    Tls,
    Guid,
    Policy,
    Scan,
    // Single objects.
    DomainAsset,
    HostCore,
    Cause,
    // A member that no specification declares.
    Unknown,
}

/// Keys of `asset` with what is in them.
pub type Members = &'static [(&'static str, Shape)];

const AS: Members = &[
    ("asNames", Shape::Text),
    ("orgNames", Shape::Text),
    ("orgIds", Shape::Text),
    ("countries", Shape::Text),
    ("registries", Shape::Text),
    ("registrarNames", Shape::Text),
    ("registrarCreatedAt", Shape::Millis),
    ("registrarUpdatedAt", Shape::Millis),
    ("registrantContacts", Shape::Person),
    ("adminNames", Shape::Person),
    ("adminPhones", Shape::Text),
    ("technicalOrgs", Shape::Text),
    ("sources", Shape::Source),
    ("peeringPolicy", Shape::Unknown),
];

const CONTACT: Members = &[
    ("names", Shape::Person),
    ("organizations", Shape::Text),
    ("sources", Shape::Source),
    ("roleHints", Shape::Unknown),
];

const DOMAIN: Members = &[
    ("nameServers", Shape::Host),
    ("registrarIanaIds", Shape::Int),
    ("mailServers", Shape::Host),
    ("alexaInfos", Shape::Alexa),
    ("whoisServers", Shape::Host),
    ("soaRecords", Shape::Soa),
    ("domainStatuses", Shape::Text),
    ("registrarNames", Shape::Text),
    ("registrantOrgs", Shape::Text),
    ("parkedDomain", Shape::Flag),
    ("registrantContacts", Shape::Person),
    ("adminContacts", Shape::Person),
    ("technicalContacts", Shape::Person),
    ("registrantNames", Shape::Person),
    ("registrantPhones", Shape::Text),
    ("registrarCreatedAt", Shape::Millis),
    ("registrarUpdatedAt", Shape::Millis),
    ("registrarExpiresAt", Shape::Millis),
    ("sources", Shape::Source),
    ("dnssecState", Shape::Unknown),
];

const HOST: Members = &[
    ("ipAddresses", Shape::Ip),
    ("webComponents", Shape::Component),
    ("services", Shape::Service),
    ("cookies", Shape::Cookie),
    ("domainAsset", Shape::DomainAsset),
    ("sslCerts", Shape::Cert),
    ("headers", Shape::Header),
    ("responseBodies", Shape::Digest),
    ("attributes", Shape::Attribute),
    ("hostCore", Shape::HostCore),
    ("resourceUrls", Shape::Resource),
    ("parentHosts", Shape::Host),
    ("childHosts", Shape::Host),
    ("cnames", Shape::Host),
    ("asns", Shape::Long),
    ("location", Shape::Place),
    ("scanMetadata", Shape::Scan),
    ("ipBlocks", Shape::Block),
    ("sslServerConfig", Shape::Tls),
    ("banners", Shape::Banner),
    ("nsRecord", Shape::Flag),
    ("mxRecord", Shape::Flag),
    ("webserver", Shape::Flag),
    ("nxdomain", Shape::Flag),
    ("isWildcard", Shape::Flag),
    ("ipv4", Shape::Flag),
    ("ipv6", Shape::Flag),
    ("sources", Shape::Source),
    ("cdnHints", Shape::Unknown),
];

const IP_ADDRESS: Members = &[
    ("asns", Shape::Long),
    ("services", Shape::Service),
    ("reputations", Shape::Reputation),
    ("netRanges", Shape::Text),
    ("hosts", Shape::Host),
    ("location", Shape::Place),
    ("webComponents", Shape::Component),
    ("headers", Shape::Header),
    ("attributes", Shape::Attribute),
    ("cookies", Shape::Cookie),
    ("sslCerts", Shape::Cert),
    ("ipBlocks", Shape::Block),
    ("banners", Shape::Banner),
    ("scanMetadata", Shape::Scan),
    ("sslServerConfig", Shape::Tls),
    ("nsRecord", Shape::Flag),
    ("mxRecord", Shape::Flag),
    ("nxdomain", Shape::Flag),
    ("sources", Shape::Source),
    ("reverseHints", Shape::Unknown),
];

const IP_BLOCK: Members = &[
    ("asns", Shape::Long),
    ("bgpPrefixes", Shape::Text),
    ("netNames", Shape::Text),
    ("netRanges", Shape::Text),
    ("registrantOrgs", Shape::Text),
    ("location", Shape::Place),
    ("reputations", Shape::Reputation),
    ("technicalContacts", Shape::Person),
    ("registrarCreatedAt", Shape::Millis),
    ("registrarUpdatedAt", Shape::Millis),
    ("registrarExpiresAt", Shape::Millis),
    ("sources", Shape::Source),
    ("allocation", Shape::Unknown),
];

const PAGE: Members = &[
    ("responseBodyMinhashSignatures", Shape::MinHash),
    ("httpResponseCodes", Shape::Int),
    ("responseHeaders", Shape::Header),
    ("titles", Shape::Text),
    ("cookies", Shape::Cookie),
    ("cause", Shape::Cause),
    ("webComponents", Shape::Component),
    ("fullDomMinhashSignatures", Shape::MinHash),
    ("ipAddresses", Shape::Ip),
    ("successful", Shape::Flag),
    ("responseTimes", Shape::Long),
    ("frames", Shape::Flag),
    ("windows", Shape::Flag),
    ("contentTypes", Shape::Text),
    ("contentLengths", Shape::Long),
    ("windowNames", Shape::Text),
    ("charsets", Shape::Text),
    ("languages", Shape::Text),
    ("errors", Shape::Text),
    ("redirectUrls", Shape::Text),
    ("finalUrls", Shape::Text),
    ("finalResponseCodes", Shape::Int),
    ("finalIpAddresses", Shape::Ip),
    ("finalAsns", Shape::Long),
    ("responseBodyHashSignatures", Shape::Digest),
    ("attributes", Shape::Attribute),
    ("assetSecurityPolicies", Shape::Policy),
    ("gdprAssetSecurityPolicies", Shape::Policy),
    ("sslCerts", Shape::Cert),
    ("resourceUrls", Shape::Resource),
    ("guids", Shape::Guid),
    ("services", Shape::Service),
    ("location", Shape::Place),
    ("domainAsset", Shape::DomainAsset),
    ("sslServerConfig", Shape::Tls),
    ("sources", Shape::Source),
    ("renderHints", Shape::Unknown),
];

const SSL_CERT: Members = &[
    ("subjectCommonNames", Shape::Words),
    ("subjectAlternativeNames", Shape::Words),
    ("issuerCommonNames", Shape::Words),
    ("organizations", Shape::Words),
    ("organizationalUnits", Shape::Words),
    ("subjectLocality", Shape::Words),
    ("subjectCountry", Shape::Words),
    ("subjectOrganizations", Shape::Words),
    ("issuerOrganizations", Shape::Words),
    ("issuerAlternativeNames", Shape::Words),
    ("sources", Shape::Source),
    ("ctLogs", Shape::Unknown),
];

/// A kind that a future service may bring (API reference, section 7: "wider set").
const OTHER: Members = &[
    ("mailServers", Shape::Host),
    ("ipAddresses", Shape::Ip),
    ("banners", Shape::Banner),
    ("sources", Shape::Source),
    ("policyHints", Shape::Unknown),
];

/// The members that fragments of a kind are made of.
pub fn members(kind: &str) -> Members {
    match kind {
        "as" => AS,
        "contact" => CONTACT,
        "domain" => DOMAIN,
        "host" => HOST,
        "ipAddress" => IP_ADDRESS,
        "ipBlock" => IP_BLOCK,
        "page" => PAGE,
        "sslCert" => SSL_CERT,
        _ => OTHER,
    }
}
