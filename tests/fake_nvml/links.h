/* How the devices are joined: NVLinks, NVSwitch and the tree of PCIe. Part of fake_nvml.c.
 *
 *   pci              bus id; by default one of its own
 *   path             its place in the machine: "socket.bridge.switch.switch.board"; unsupported without
 *   nvlinks          what each of its links leads to, in order: a device's index, "s0" and so on for a switch, "n" for
 *                    a processor, "?" for what the driver does not know, "-" where the link is down; joined by ','
 *   p2p = 0          no other device can be reached by NVLink, whatever its links say
 *   pcie_generation, pcie_lanes
 */
enum { LINK_TO_GPU = 0, LINK_TO_NPU = 1, LINK_TO_SWITCH = 2, LINK_TO_UNKNOWN = 255, P2P_NOT_SUPPORTED = 5 };

typedef struct { /* nvmlPciInfo_t */
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} pci_info;

static int write_pci(pci_info *info, const char *bus_id) {
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", bus_id);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(device *d, pci_info *info) { return write_pci(info, d->pci), status(d); }

int nvmlDeviceGetMaxPcieLinkGeneration(device *d, unsigned *is) { *is = d->pcie_generation; return metered(d, *is); }
int nvmlDeviceGetCurrPcieLinkWidth(device *d, unsigned *is) { *is = d->pcie_lanes; return metered(d, *is); }

/* One level for each part of their paths that two devices have in common: nvmlGpuTopologyLevel_t. */
int nvmlDeviceGetTopologyCommonAncestor(device *one, device *other, unsigned *level) {
    static const unsigned LEVELS[] = {50, 40, 30, 20, 10, 0};
    const char *a = one->path, *b = other->path;
    int common = 0;
    if (!*a || !*b) return NOT_SUPPORTED;
    for (; common < 5 && *a; common++) {
        size_t length = strcspn(a, ".");
        if (length != strcspn(b, ".") || strncmp(a, b, length)) break;
        a += length + (a[length] == '.');
        b += length + (b[length] == '.');
    }
    *level = LEVELS[common];
    return status(one);
}

/* Copies what link `number` leads to; no such link is an invalid argument, as in NVML. */
static int link_end(const device *d, unsigned number, char *end, size_t size) {
    const char *at = d->nvlinks;
    for (; number && *at; number--) {
        at += strcspn(at, ",");
        at += *at == ',';
    }
    snprintf(end, size, "%.*s", (int)strcspn(at, ","), at);
    return *end ? status(d) : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkState(device *d, unsigned number, unsigned *active) {
    char end[8];
    int found = link_end(d, number, end, sizeof end);
    *active = *end != '-';
    return found;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device *d, unsigned number, pci_info *info) {
    char end[8], bus_id[32];
    int found = link_end(d, number, end, sizeof end);
    if (found != SUCCESS) return found;
    if (*end == '?') return write_pci(info, "FFFFFFFF:FF:FF.0");
    if (*end == 'n') return write_pci(info, "00000004:00:00.0");
    if (*end != 's') return write_pci(info, gpus[atoi(end)].pci);
    snprintf(bus_id, sizeof bus_id, "00000000:C%c:00.0", end[1]);
    return write_pci(info, bus_id);
}

int nvmlDeviceGetNvLinkRemoteDeviceType(device *d, unsigned number, unsigned *kind) {
    char end[8];
    int found = link_end(d, number, end, sizeof end);
    *kind = *end == 's' ? LINK_TO_SWITCH : *end == 'n' ? LINK_TO_NPU : *end == '?' ? LINK_TO_UNKNOWN : LINK_TO_GPU;
    return found;
}

int nvmlDeviceGetP2PStatus(device *one, device *other, int capability, int *is) {
    (void)capability;
    *is = one->p2p && other->p2p ? 0 : P2P_NOT_SUPPORTED;
    return status(one);
}
