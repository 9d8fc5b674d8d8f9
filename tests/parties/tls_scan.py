"""Scans the TLS listener on the given port of this host with sslyze."""

import sys

from sslyze import (
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    Scanner,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)
from sslyze.plugins.robot.implementation import RobotScanResultEnum

from _checks import expect, expect_that, finish

PORT, CERTIFICATE = int(sys.argv[1]), sys.argv[2]
COMMANDS = {
    ScanCommand.SSL_2_0_CIPHER_SUITES,
    ScanCommand.SSL_3_0_CIPHER_SUITES,
    ScanCommand.TLS_1_0_CIPHER_SUITES,
    ScanCommand.TLS_1_1_CIPHER_SUITES,
    ScanCommand.TLS_1_2_CIPHER_SUITES,
    ScanCommand.TLS_1_3_CIPHER_SUITES,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.TLS_FALLBACK_SCSV,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.HEARTBLEED,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.ROBOT,
    ScanCommand.ELLIPTIC_CURVES,
    ScanCommand.CERTIFICATE_INFO,
}
WEAK = ("RC4", "3DES", "DES_", "NULL", "EXPORT", "anon", "MD5", "_CBC_")


def scan():
    location = ServerNetworkLocation("localhost", PORT, ip_address="127.0.0.1")
    scanner = Scanner()
    scanner.queue_scans([ServerScanRequest(server_location=location, scan_commands=COMMANDS)])
    result = next(iter(scanner.get_results()))
    if result.scan_status != ServerScanStatusEnum.COMPLETED:
        expect("the scan", result.scan_status, "completed")
        finish()
    return result.scan_result


def main():
    attempts = scan()

    def found(name):
        attempt = getattr(attempts, name)
        if attempt.status != ScanCommandAttemptStatusEnum.COMPLETED:
            expect(f"scan of {name}", attempt.error_reason, "completed")
            return None
        return attempt.result

    def suites(version):
        result = found(f"{version}_cipher_suites")
        return sorted(accepted.cipher_suite.name for accepted in result.accepted_cipher_suites) if result else []

    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        expect(f"{version} is not spoken", suites(version), [])
    for version in ("tls_1_2", "tls_1_3"):
        accepted = suites(version)
        print("      " + ", ".join(accepted))
        expect_that(f"{version} is spoken", accepted)
        expect(f"{version} has no weak suite", [suite for suite in accepted if any(weak in suite for weak in WEAK)], [])
    keys = [suite for suite in suites("tls_1_2") if not suite.startswith("TLS_ECDHE_")]
    expect("each suite of TLS 1.2 has forward secrecy", keys, [])
    expect("no early data", found("tls_1_3_early_data").supports_early_data, False)
    expect("no TLS compression", found("tls_compression").supports_compression, False)
    renegotiation = found("session_renegotiation")
    expect("secure renegotiation is signalled", renegotiation.supports_secure_renegotiation, True)
    expect("a client cannot renegotiate", renegotiation.is_vulnerable_to_client_renegotiation_dos, False)
    expect("Heartbleed", found("heartbleed").is_vulnerable_to_heartbleed, False)
    expect("CCS injection", found("openssl_ccs_injection").is_vulnerable_to_ccs_injection, False)
    expect("ROBOT", found("robot").robot_result, RobotScanResultEnum.NOT_VULNERABLE_RSA_NOT_SUPPORTED)
    curves = [curve.name for curve in found("elliptic_curves").supported_curves]
    print("      " + ", ".join(curves))
    expect_that("X25519 and P-256 are supported", {"X25519", "secp256r1"} <= set(curves), curves)
    served = found("certificate_info").certificate_deployments[0].received_certificate_chain_as_pem[0]
    with open(CERTIFICATE, encoding="ascii") as file:
        expect("the certificate is the one in the file", served.split(), file.read().split())
    finish()


main()
